"""A look at a VM's cluster that a request waits for: a worker makes it, or has just made it; the request never does."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from app.api.callers.authorization import CallerDep
from app.api.http.dependencies import Services, ServicesDep
from app.api.http.parameters import ClusterText
from app.api.http.request_headers import LONGEST_WAIT_S, WaitPreference, read_wait
from app.api.http.waiting import WaitSlotDep, wait_for_scan
from app.ngt.errors import RULES, FaultCode
from app.ngt.renewal.progress import Failure
from app.ngt.vocabulary import VmUuid
from app.settings.callers.scopes import Scope
from app.store.diagnosis import StoredFacts
from app.store.records.callers import Caller
from app.store.records.scans import ScanOrigin, ScanRecord, ScanStatus

_WAIT_S = 10
# A scan that ended so lately is as good as a new one, and spares the cluster.
_FRESH = timedelta(seconds=60)


class ScanFirstQuery(BaseModel):
    """The query of a scan before the answer."""

    model_config = ConfigDict(frozen=True)

    look: Annotated[
        bool, Field(description="Have the cluster looked at first, which needs the scope `clusters:scan` too")
    ] = True
    cluster: Annotated[
        ClusterText | None,
        Field(
            description="The VM's cluster, by default where it was seen; one that was never seen is looked for there"
        ),
    ] = None
    wait: Annotated[
        Annotated[int, Field(ge=0, le=LONGEST_WAIT_S)] | None,
        Field(description=f"Seconds to wait for the look. Default {_WAIT_S}; `Prefer: wait=N` says the same"),
    ] = None


@dataclass(frozen=True, slots=True)
class RecentScan:
    """The result of the scan. `looked`: the cluster was scanned now or a moment ago. `scan_id` None: no scan."""

    message: str
    looked: bool = False
    failure: Failure | None = None
    scan_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ScanFirst:
    """One request's way to a look."""

    request: Request
    services: Services
    caller: Caller
    take_place: WaitSlotDep
    query: ScanFirstQuery
    wait: WaitPreference

    async def look(self, cluster: str, vm: VmUuid, stored: StoredFacts | None) -> RecentScan:
        """Have the VM looked at on its cluster. Raises Fault `too-many-waits`, and ClientDisconnect."""
        if not self.query.look:
            return RecentScan("No look was asked for: this is from what is stored.")
        if Scope.CLUSTERS_SCAN not in self.caller.scopes:
            return RecentScan("Nobody looked, since that needs the scope clusters:scan: this is from what is stored.")
        return self._said(await self._recent(cluster, vm, stored) or await self._scan(cluster, vm))

    async def _recent(self, cluster: str, vm: VmUuid, stored: StoredFacts | None) -> ScanRecord | None:
        """The last scan, if it has just ended, and after the VM's last renewal did."""
        if (
            stored is None
            or (last := await self.services.store.scans.latest(cluster, vm)) is None
            or last.finished_at is None
        ):
            return None
        job = stored.facts.job
        renewed_at = job.finished_at if job is not None and job.finished_at is not None else last.finished_at
        fresh = stored.read_at - last.finished_at < _FRESH and last.finished_at >= renewed_at
        return last if fresh else None

    async def _scan(self, cluster: str, vm: VmUuid) -> ScanRecord:
        if self.wait.seconds:
            self.take_place()
        started = await self.services.store.scans.start(
            cluster, vm_uuid=vm, origin=ScanOrigin.DIAGNOSIS, caller=self.caller
        )
        return await wait_for_scan(self.request, self.services, started.scan, self.wait)

    def _said(self, scan: ScanRecord) -> RecentScan:
        if not scan.done:
            waited = f"The look is not done after {self.wait.seconds} s"
            return RecentScan(f"{waited}: this is from what was stored before. Ask again for more.", scan_id=scan.id)
        if scan.status is ScanStatus.FAILED:
            said = scan.error_message or scan.message
            code = FaultCode(scan.error_code) if scan.error_code in RULES else FaultCode.CVM_UNREACHABLE
            message = f"The look failed, and this is from what was stored before: {said}"
            return RecentScan(message, failure=Failure(code, said), scan_id=scan.id)
        return RecentScan(f"The cluster was looked at: {scan.message}", looked=True, scan_id=scan.id)


def _looking(
    request: Request,
    caller: CallerDep,
    services: ServicesDep,
    take_place: WaitSlotDep,
    query: Annotated[ScanFirstQuery, Query()],
) -> ScanFirst:
    wait = read_wait(request, query.wait)
    if query.wait is None and not wait.applied:
        wait = WaitPreference(_WAIT_S, {})
    return ScanFirst(request, services, caller, take_place, query, wait)


ScanFirstDep = Annotated[ScanFirst, Depends(_looking)]
"""How the request asks for a look."""
