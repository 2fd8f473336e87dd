"""Finding VMs: in one of three orders, page after page or all in one stream, and only on the clusters that are named.

A page begins after a place in the order, not after a number of rows, so new or vanished VMs shift nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, UnaryExpression, and_, func, literal_column, or_, select, tuple_

from app.ngt.vocabulary import PowerState, VmUuid
from app.store.postgres.tables import JOB, VM
from app.store.records.inventory import KnownVm
from app.store.records.rows import columns_of

LONGEST_PLACE = 200
"""VMs are ordered by so many characters of their name, so that a place in the order is never longer."""


class VmSort(StrEnum):
    """The order of VMs. By date those that expire next come first, or last; those of unknown date are always last."""

    NOT_AFTER = "not_after"
    NOT_AFTER_DESC = "-not_after"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class VmFilter:
    """Selects VMs; None means any. `clusters` are those that the caller may use; a VM elsewhere is not found.

    `name_begins` is case-sensitive, as `name` is. `expires_within_days` finds what has expired, too.
    `expired=False` wants a date that is known and not over.
    """

    clusters: tuple[str, ...]
    vm_uuid: VmUuid | None = None
    name: str | None = None
    name_begins: str | None = None
    expires_within_days: int | None = None
    expired: bool | None = None
    unknown_expiry: bool | None = None
    link_active: bool | None = None
    power: PowerState | None = None
    vanished: bool | None = False


@dataclass(frozen=True, slots=True)
class VmPlace:
    """The last VM of a page: its value in the order, a date or the beginning of a name, and which VM it is."""

    value: datetime | str | None
    vm_uuid: str
    cluster: str


IS_GONE = VM.c.vanished_at.is_not(None)
WHERE_IT_IS: tuple[ColumnElement[Any], ...] = (
    IS_GONE,
    func.greatest(VM.c.last_seen_at, VM.c.observed_at).desc().nulls_last(),
    VM.c.cluster,
)
"""The order of the rows of one VM: it is where it has not vanished, and of those where it was seen last."""

_NAME_PLACE = func.left(VM.c.name, LONGEST_PLACE)
_LAST_JOB = (
    select(JOB.c.id)
    .where(JOB.c.vm_uuid == VM.c.vm_uuid, JOB.c.cluster == VM.c.cluster, ~JOB.c.validate_only)
    .order_by(JOB.c.created_at.desc())
    .limit(1)
    .scalar_subquery()
)
_COMPUTED: dict[str, ColumnElement[Any]] = {
    "days_left": literal_column("CAST(floor(extract(epoch FROM vm.not_after - now()) / 86400) AS integer)", Integer()),
    "expired": VM.c.not_after <= func.now(),
    "last_job_id": _LAST_JOB,
}


def vm_columns() -> list[ColumnElement[Any]]:
    """The columns of a `KnownVm`."""
    return [_COMPUTED[name].label(name) if name in _COMPUTED else VM.c[name] for name in columns_of(KnownVm)]


def find_vms(wanted: VmFilter, sort: VmSort, *, after: VmPlace | None = None) -> Select[Any]:
    """The statement that finds the VMs, in order, from behind `after`; without a limit."""
    found = select(*vm_columns()).where(*_conditions(wanted)).order_by(*_order(sort))
    return found if after is None else found.where(_is_after(sort, after))


def place_of(vm: KnownVm, sort: VmSort) -> VmPlace:
    """Where the VM stands in the order."""
    name = None if vm.name is None else vm.name[:LONGEST_PLACE]
    return VmPlace(name if sort is VmSort.NAME else vm.not_after, vm.vm_uuid, vm.cluster)


def _order(sort: VmSort) -> tuple[UnaryExpression[Any] | ColumnElement[Any], ...]:
    first: UnaryExpression[Any] | ColumnElement[Any]
    match sort:
        case VmSort.NOT_AFTER:
            # As in the index, where what is not known is last.
            first = VM.c.not_after
        case VmSort.NOT_AFTER_DESC:
            first = VM.c.not_after.desc().nulls_last()
        case VmSort.NAME:
            first = _NAME_PLACE
    return first, VM.c.vm_uuid, VM.c.cluster


def _is_after(sort: VmSort, place: VmPlace) -> ColumnElement[bool]:
    value: ColumnElement[Any] = _NAME_PLACE if sort is VmSort.NAME else VM.c.not_after
    among_equals = tuple_(VM.c.vm_uuid, VM.c.cluster) > tuple_(place.vm_uuid, place.cluster)
    if place.value is None:
        return and_(value.is_(None), among_equals)
    beyond = value < place.value if sort is VmSort.NOT_AFTER_DESC else value > place.value
    return or_(beyond, and_(value == place.value, among_equals), value.is_(None))


def _conditions(wanted: VmFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [VM.c.cluster.in_(wanted.clusters)]
    equal = {VM.c.vm_uuid: wanted.vm_uuid, VM.c.name: wanted.name, VM.c.link_active: wanted.link_active}
    conditions += [column == value for column, value in equal.items() if value is not None]
    if wanted.name_begins is not None:
        conditions.append(func.starts_with(VM.c.name, wanted.name_begins))
    if wanted.expires_within_days is not None:
        conditions.append(VM.c.not_after <= func.now() + func.make_interval(0, 0, 0, wanted.expires_within_days))
    presence = {
        VM.c.not_after.is_(None): wanted.unknown_expiry,
        IS_GONE: wanted.vanished,
        VM.c.not_after <= func.now(): wanted.expired,
    }
    conditions += [holds if wish else ~holds for holds, wish in presence.items() if wish is not None]
    if wanted.power is not None:
        is_so = VM.c.power == wanted.power
        conditions.append(or_(is_so, VM.c.power.is_(None)) if wanted.power is PowerState.UNKNOWN else is_so)
    return conditions
