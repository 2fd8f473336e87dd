"""The query of a list of VMs."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.api.http.parameters import NOTE_PATTERN, ClusterText
from app.api.http.problems import invalid
from app.api.inventory.cursor import read_vm_cursor
from app.api.inventory.schemas import LONGEST_CURSOR
from app.ngt.vocabulary import PowerState
from app.store.inventory.search import VmFilter, VmPlace, VmSort

_MOST_VMS = 200
_MOST_DAYS = 36_500

_Name = Annotated[str, Field(pattern=NOTE_PATTERN, max_length=255)]
_Days = Annotated[int, Field(ge=0, le=_MOST_DAYS)]
_Cursor = Annotated[str, Field(max_length=LONGEST_CURSOR)]


class VmQuery(BaseModel):
    """All that is given must hold."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[
        _Name | None, Field(description="The VM's name, in upper and lower case as it is; `web*`: names that begin so")
    ] = None
    cluster: Annotated[ClusterText | None, Field(description="VMs on this cluster")] = None
    expires_within_days: Annotated[
        _Days | None, Field(description="The certificate expires within so many days, or has expired already")
    ] = None
    expired: Annotated[
        bool | None, Field(description="true: the certificate has expired; false: its date is known and not over")
    ] = None
    unknown_expiry: Annotated[bool | None, Field(description="true: no date is known of the certificate")] = None
    link_active: Annotated[bool | None, Field(description="Whether the agent talks to its cluster")] = None
    power: Annotated[PowerState | None, Field(description="Whether the VM runs; unknown: its cluster did not say")] = (
        None
    )
    vanished: Annotated[
        bool, Field(description="true: only VMs that their cluster does not have any more; they are left out else")
    ] = False
    sort: Annotated[
        VmSort, Field(description="By the certificate's end, soonest or latest first, unknown last; or by name")
    ] = VmSort.NOT_AFTER
    limit: Annotated[int, Field(ge=1, le=_MOST_VMS, description="VMs on a page; not of CSV, which has all")] = 50
    cursor: Annotated[_Cursor | None, Field(description="`next_cursor` of the page before, of the same `sort`")] = None

    def filter_on(self, allowed: tuple[str, ...]) -> VmFilter:
        """Only VMs on these clusters."""
        is_prefix = self.name is not None and self.name.endswith("*")
        return VmFilter(
            clusters=tuple(cluster for cluster in allowed if self.cluster in {None, cluster}),
            name=None if is_prefix else self.name,
            name_begins=self.name[:-1] if self.name is not None and is_prefix else None,
            expires_within_days=self.expires_within_days,
            expired=self.expired,
            unknown_expiry=self.unknown_expiry,
            link_active=self.link_active,
            power=self.power,
            vanished=self.vanished,
        )

    def after(self) -> VmPlace | None:
        """Where the page begins. Raises InvalidRequest for a cursor that is none, or of another order."""
        return None if self.cursor is None else read_vm_cursor(self.cursor, self.sort)

    def check_for_csv(self) -> None:
        """A file has all VMs: that it would end earlier must not be thought. Raises InvalidRequest."""
        for name in ("limit", "cursor"):
            if name in self.model_fields_set:
                raise invalid("CSV has no pages: it has all VMs that the filters leave.", "query", name)
