"""The actions of a renewal, performed on clusters and guests. A failure is an answer; nothing is decided here."""

import asyncio
import math
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from app.ngt.errors import Fault, FaultCode
from app.ngt.masking import mask
from app.ngt.renewal.progress import CvmClock, Failure, FoundVm, GuestSighting, Progress, Sighting, StepName
from app.ngt.renewal.request import Rules
from app.ngt.renewal.steps import (
    Action,
    AgentRestarted,
    Answer,
    BeforeRead,
    Changed,
    ChangeLost,
    Failed,
    FindVm,
    Finish,
    LookAtEntity,
    Looked,
    MakeChange,
    ReadBefore,
    RestartTheAgent,
    Transition,
    Verified,
    Verify,
    VmFound,
    Wait,
)
from app.ngt.tools.change_command import ChangeCommand, build_change, read_change
from app.ngt.vocabulary import VmRecord
from app.settings import GuestSettings, Limits
from app.ssh import guest as guest_ssh
from app.ssh.host import Host, NotSent
from app.ssh.pool import Pool
from app.store.inventory.vms import Vms
from app.store.records.claims import NewExchange, StepDone
from app.work.clusters.client import ClusterClient, Query
from app.work.clusters.database_clock import DatabaseClock
from app.work.clusters.rules import guest_host
from app.work.renewal import exchanges


@dataclass(frozen=True, slots=True)
class Uncommitted:
    """The part of the log that the next commit has to store: the end of a step, and the exchanges."""

    done: StepDone | None = None
    sent: tuple[NewExchange, ...] = ()


@dataclass(frozen=True, slots=True)
class Performed:
    """A performed action: the answer for the machine, and the exchanges for the job's log."""

    step: StepName
    started_at: datetime
    finished_at: datetime
    answer: Answer
    cvm: str | None
    sent: tuple[NewExchange, ...]

    def append_to(self, before: Uncommitted, transition: Transition, *, is_look: bool) -> Uncommitted:
        """A look within a step has no verdict of its own."""
        done = before.done
        if not is_look:
            verdict, message, words = transition.verdict, transition.message, transition.result_vec
            done = StepDone(self.step, verdict, self.finished_at, message, words, self.cvm)
        return Uncommitted(done, (*before.sent, *self.sent))


class Actions:
    """Performs the actions of the jobs of one worker process."""

    def __init__(self, vms: Vms, clusters: dict[str, ClusterClient], guests: Pool, limits: Limits) -> None:
        self._vms = vms
        self._clusters = clusters
        self._guests = guests
        self._limits = limits

    def prepare_change(self, begun: Progress, action: MakeChange, rules: Rules, clock: DatabaseClock) -> NewExchange:
        """The exact text of a change, which is stored before it is sent."""
        assert begun.intent is not None
        return NewExchange(action.step, begun.intent.cvm, clock.now(), mask(_command_of(begun, action, rules).text))

    async def perform(
        self, p: Progress, action: Action, rules: Rules, clock: DatabaseClock, prepared: NewExchange | None
    ) -> Performed:
        """Raises no Fault of a cluster or a guest: a failure is an answer too."""
        assert not isinstance(action, Wait | Finish)
        started_at = clock.now()
        sent: list[NewExchange] = []
        answer: Answer
        try:
            match action:
                case FindVm():
                    answer = await self._find_vm(p, clock, sent)
                case ReadBefore():
                    answer = await self._read_before(p, clock, sent)
                case LookAtEntity(step):
                    sighting, seen_clock = await self._look(p, step, clock, sent)
                    answer = Looked(sighting, seen_clock)
                case MakeChange():
                    assert prepared is not None
                    answer, exchange = await self._change(p, action, rules, clock, prepared)
                    sent.append(exchange)
                case RestartTheAgent():
                    answer = await self._restart_agent(p, clock, sent)
                case Verify(look):
                    answer = await self._verify(p, clock, sent, look=look)
                case _:
                    assert_never(action)
        except Fault as fault:
            answer = Failed(action.step, Failure(fault.code, fault.message))
        cvm = next((one.place for one in sent if one.place), None)
        return Performed(action.step, started_at, clock.now(), answer, cvm, tuple(sent))

    def _cluster(self, p: Progress) -> ClusterClient:
        worked = self._clusters.get(p.cluster or "")
        if worked is None:
            raise Fault(FaultCode.CVM_UNREACHABLE, f"the cluster {p.cluster} is not in the configuration any more")
        return worked

    # Looking.

    async def _find_vm(self, p: Progress, clock: DatabaseClock, sent: list[NewExchange]) -> VmFound:
        """Asks all clusters at the same time; a cluster that does not answer may have the VM."""
        worked = [self._clusters[name] for name in p.request.clusters if name in self._clusters]
        if not worked:
            raise Fault(FaultCode.CLUSTER_NOT_FOUND, "none of the clusters of this job is configured any more")
        found = await asyncio.gather(*(self._search(cluster, p) for cluster in worked))
        silent = [fault for fault in found if isinstance(fault, Fault)]
        hits = [(cluster, hit) for cluster, hit in zip(worked, found, strict=True) if isinstance(hit, VmRecord)]
        if len(hits) > 1:
            names = ", ".join(cluster.name for cluster, _ in hits)
            raise Fault(FaultCode.VM_FOUND_TWICE, f"the VM {p.vm_uuid} is on {names}; nothing was changed.")
        if not hits and silent:
            most_telling = silent[0]
            raise Fault(most_telling.code, f"{most_telling.message}; nothing was changed.")
        if not hits:
            names = ", ".join(cluster.name for cluster in worked)
            raise Fault(FaultCode.VM_NOT_FOUND, f"no VM {p.vm_uuid} on {names}; nothing was changed.")
        cluster, record = hits[0]
        if record.controller_vm:
            raise Fault(FaultCode.CONTROLLER_VM, f"{record.name!r} is a controller VM; nothing was changed.")
        sent.append(exchanges.of_listing(await cluster.listing(max_age_s=math.inf), record, clock))
        guest = cluster.settings.guest_for(record.name, record.addresses)
        before = await self._vms.before_renewal(p.vm_uuid, cluster.name)
        return VmFound(
            cluster.name,
            FoundVm(
                name=record.name,
                power=record.power,
                addresses=record.addresses,
                guest_address=guest[1] if guest is not None else None,
                restart_command=guest[0].restart_command if guest is not None else None,
                renewed_at=before.renewed_at,
                awaiting_pickup=before.awaiting_pickup,
                handed_in=before.handed_in,
            ),
        )

    async def _search(self, cluster: ClusterClient, p: Progress) -> VmRecord | Fault | None:
        """A cached listing may be older than the VM, so it is read again before the VM counts as absent."""
        try:
            for max_age_s in (self._limits.listing_max_age_s, 0.0):
                listing = await cluster.listing(max_age_s=max_age_s)
                if (record := listing.vms.get(p.vm_uuid)) is not None:
                    return record
        except Fault as fault:
            return fault
        return None

    async def _read_before(self, p: Progress, clock: DatabaseClock, sent: list[NewExchange]) -> BeforeRead:
        assert p.vm is not None
        looking = asyncio.ensure_future(self._look(p, StepName.READ_NGT_BEFORE, clock, sent))
        guest: GuestSighting | None = None
        failure: Failure | None = None
        if p.vm.has_readable_guest:
            try:
                guest = await self._read_guest(p, StepName.READ_NGT_BEFORE, clock, sent)
            except Fault as fault:
                failure = Failure(fault.code, fault.message)
        sighting, seen_clock = await looking
        return BeforeRead(sighting, seen_clock, guest, failure)

    async def _look(
        self, p: Progress, step: StepName, clock: DatabaseClock, sent: list[NewExchange]
    ) -> tuple[Sighting, CvmClock]:
        cluster = self._cluster(p)
        query = await cluster.query({p.vm_uuid}, prefer=p.clock.cvm if p.clock is not None else None)
        sent.append(exchanges.of_query(query, p.vm_uuid, step, clock))
        entity = query.entities.get(p.vm_uuid)
        if entity is None and not query.other_count and not p.delete_begun:
            await _must_be_without_ngt(cluster, p)
        return Sighting(clock.at(query.read_s), entity), _cvm_clock(query, clock)

    async def _read_guest(
        self, p: Progress, step: StepName, clock: DatabaseClock, sent: list[NewExchange]
    ) -> GuestSighting:
        guest, host = self._guest(p)
        reading = await guest_ssh.read_guest(
            self._guests,
            host,
            read_certificate=guest.read_certificate,
            read_config=guest.read_config,
            timeout_s=self._limits.guest_timeout_s,
        )
        now = clock.now()
        for text, answer in (
            (guest.read_certificate, reading.certificate_answer),
            (guest.read_config, reading.config_answer),
        ):
            sent.append(exchanges.of_command(step, reading.address, text, answer, now))
        if reading.fault is not None and reading.fault.code is not FaultCode.GUEST_CERTIFICATE_MISSING:
            raise reading.fault
        return GuestSighting(now, reading.certificate, reading.ngt_uuid, reading.address, reading.host_key)

    def _guest(self, p: Progress) -> tuple[GuestSettings, Host]:
        assert p.vm is not None
        cluster = self._cluster(p)
        found = cluster.settings.guest_for(p.vm.name, p.vm.addresses)
        if found is None:
            raise Fault(FaultCode.GUEST_NOT_REACHED, f"no SSH access to the guest of VM {p.vm.name!r} is configured")
        guest, address = found
        return guest, guest_host(guest, address)

    # Changing.

    async def _change(
        self, p: Progress, action: MakeChange, rules: Rules, clock: DatabaseClock, prepared: NewExchange
    ) -> tuple[Answer, NewExchange]:
        assert p.intent is not None
        command = _command_of(p, action, rules)
        cvm, timeout_s = p.intent.cvm, command.timeout_s
        try:
            result = await self._cluster(p).ssh.change(cvm, action.step, command.text, timeout_s=timeout_s)
        except NotSent as fault:
            failed = Failed(action.step, Failure(fault.code, fault.message))
            return failed, exchanges.answered(prepared, clock.now(), fault=f"not sent: {fault.message}")
        except Fault as fault:
            return ChangeLost(), exchanges.answered(prepared, clock.now(), fault=fault.message)
        framed = read_change(result.stdout, p.intent.marker)
        fault_text = None if framed is not None else "the answer is not complete"
        exchange = exchanges.answered(prepared, clock.now(), result=result, fault=fault_text)
        return Changed(framed) if framed is not None else ChangeLost(), exchange

    async def _restart_agent(self, p: Progress, clock: DatabaseClock, sent: list[NewExchange]) -> AgentRestarted:
        guest, host = self._guest(p)
        answer = await guest_ssh.restart_agent(
            self._guests, host, restart_command=guest.restart_command, timeout_s=self._limits.restart_timeout_s
        )
        sent.append(exchanges.of_command(StepName.RESTART_AGENT, host.name, guest.restart_command, answer, clock.now()))
        return AgentRestarted()

    async def _verify(self, p: Progress, clock: DatabaseClock, sent: list[NewExchange], *, look: bool) -> Verified:
        """A guest or a cluster that does not answer is asked again later."""
        assert p.vm is not None
        sighting: Sighting | None = None
        seen_clock: CvmClock | None = None
        guest: GuestSighting | None = None
        asks_guest = p.vm.has_readable_guest
        if asks_guest:
            try:
                guest = await self._read_guest(p, StepName.VERIFY, clock, sent)
            except Fault as fault:
                sent.append(exchanges.of_failed_reading(p.vm.guest_address or "", clock.now(), fault.message))
        if look:
            try:
                sighting, seen_clock = await self._look(p, StepName.VERIFY, clock, sent)
            except Fault as fault:
                sent.append(exchanges.of_failed_reading(p.vm.guest_address or "", clock.now(), fault.message))
        return Verified(sighting, seen_clock, guest, asks_guest)


async def _must_be_without_ngt(cluster: ClusterClient, p: Progress) -> None:
    """An empty query proves the absence of the entity only together with ncli.

    After a delete of ours the query alone is enough: ncli's flag can be stale, and a create is harmless.
    """
    record = (await cluster.listing(max_age_s=0.0)).vms.get(p.vm_uuid)
    if record is None or record.ngt is None or record.ngt.enabled is not False:
        message = "the query lists no VM tools entity at all, and ncli does not say that NGT is off for this VM"
        raise Fault(FaultCode.UNEXPECTED_OUTPUT, message)


def _cvm_clock(query: Query, clock: DatabaseClock) -> CvmClock:
    read_at = clock.at(query.read_s)
    cvm_unix_s = query.read_s + query.cvm_ahead_s
    return CvmClock(query.cvm, cvm_unix_s - read_at.timestamp(), read_at, query.refresh_offered)


def _command_of(p: Progress, action: MakeChange, rules: Rules) -> ChangeCommand:
    assert p.intent is not None
    marker, not_after_s = p.intent.marker, p.intent.not_after_s
    return build_change(action.step, rules.tools, action.calls, marker=marker, not_after_s=not_after_s)
