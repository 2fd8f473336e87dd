"""Which VMs a caller asks for, as it stands in the query; and the cursor of a page, which is bound to its order."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.api.problems import InvalidRequest, invalid
from app.api.renew_request import CLUSTER_PATTERN, NOTE_PATTERN
from app.api.vm_schemas import LONGEST_CURSOR
from app.ngt.vocabulary import PowerState, parse_vm_uuid
from app.store.vm_records import KnownVm
from app.store.vm_search import LONGEST_PLACE, VmFilter, VmPlace, VmSort, place_of

_MOST_VMS = 200
_MOST_DAYS = 36_500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_Name = Annotated[str, Field(pattern=NOTE_PATTERN, max_length=255)]
_ClusterName = Annotated[str, Field(pattern=CLUSTER_PATTERN, max_length=63)]
_Days = Annotated[int, Field(ge=0, le=_MOST_DAYS)]
_Cursor = Annotated[str, Field(max_length=LONGEST_CURSOR)]


class VmQuery(BaseModel):
    """All that is given must hold."""

    model_config = ConfigDict(frozen=True)

    name: Annotated[
        _Name | None, Field(description="The VM's name, in upper and lower case as it is; `web*`: names that begin so")
    ] = None
    cluster: Annotated[_ClusterName | None, Field(description="VMs on this cluster")] = None
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
        return None if self.cursor is None else _read_cursor(self.cursor, self.sort)

    def check_for_csv(self) -> None:
        """A file has all VMs: that it would end earlier must not be thought. Raises InvalidRequest."""
        for name in ("limit", "cursor"):
            if name in self.model_fields_set:
                raise invalid("CSV has no pages: it has all VMs that the filters leave.", "query", name)


def write_cursor(last: KnownVm, sort: VmSort) -> str:
    """The cursor of the page behind this VM."""
    place = place_of(last, sort)
    value = (place.value - _EPOCH) // _MICROSECOND if isinstance(place.value, datetime) else place.value
    text = json.dumps([sort, value, place.vm_uuid, place.cluster], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(text: str, sort: VmSort) -> VmPlace:
    try:
        written = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
        of_sort, value, vm_uuid, cluster = json.loads(written)
        place = VmPlace(_value(VmSort(of_sort), value), parse_vm_uuid(vm_uuid), _matching(CLUSTER_PATTERN, cluster))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise _no_cursor("This is no cursor of a page of VMs.") from None
    if of_sort != sort:
        raise _no_cursor(f"This cursor goes on with the order {of_sort}, and the request asks for {sort}.")
    return place


def _value(sort: VmSort, written: object) -> datetime | str | None:
    if written is None:
        return None
    if sort is VmSort.NAME:
        return _matching(NOTE_PATTERN, written)
    if not isinstance(written, int):
        raise TypeError
    return _EPOCH + written * _MICROSECOND


def _matching(pattern: str, written: object) -> str:
    if not isinstance(written, str) or len(written) > LONGEST_PLACE or not re.fullmatch(pattern, written):
        raise TypeError
    # What cannot be encoded, no database takes.
    written.encode()
    return written


def _no_cursor(detail: str) -> InvalidRequest:
    return invalid(detail, "query", "cursor")
