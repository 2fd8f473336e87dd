"""The client of one configured cluster: a listing that all jobs share, and queries for VM tools entities."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from app.ngt.errors import Fault, FaultCode
from app.ngt.masking import mask
from app.ngt.renewal.holds import SlotRules
from app.ngt.tools.command_lines import Tools
from app.ngt.tools.entities import find_entities
from app.ngt.tools.ncli_vms import read_vm_listing
from app.ngt.tools.query_commands import (
    KILLED,
    ProbeFacts,
    QueryCommand,
    list_vms,
    query_entities,
    read_listing,
    read_query,
)
from app.ngt.vocabulary import VmRecord, VmToolsEntity, VmUuid
from app.settings import ClusterSettings, Limits
from app.ssh.cvm import BuildQuery, CommandObserver, CvmAnswer, CvmGroup
from app.ssh.pool import Pool
from app.work.clusters.rules import cvm_host, renewal_rules

_Parsed = TypeVar("_Parsed")
_LARGE = 128 * 1024
# More threads would not parse faster, and the loop would have to wait for each of them.
_PARSER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parser")


@dataclass(frozen=True, slots=True)
class Listing:
    """All VMs of a cluster; `read_s` is this machine's monotonic clock when the answer came."""

    vms: Mapping[VmUuid, VmRecord]
    read_s: float
    cvm: str
    text: str
    duration_s: float
    exit_status: int | None

    @property
    def asked_s(self) -> float:
        """The time of the request: the answer may omit later changes."""
        return self.read_s - self.duration_s


@dataclass(frozen=True, slots=True)
class Query:
    """The wanted VM tools entities, the CVM that listed them, and its clock against ours.

    `other_count`: the number of other entities in the list. `cvm_ahead_s`: the CVM's Unix time minus the monotonic
    reading `read_s` of this machine.
    """

    entities: Mapping[VmUuid, VmToolsEntity]
    other_count: int
    cvm: str
    cvm_ahead_s: float
    read_s: float
    refresh_offered: bool
    asked: CvmAnswer

    @property
    def asked_s(self) -> float:
        """The time of the request: the answer may omit later changes."""
        return self.read_s - self.asked.result.duration_s


class ClusterClient:
    """A cluster of the configuration, with its CVMs, its rules and its cached listing."""

    def __init__(
        self, name: str, settings: ClusterSettings, limits: Limits, pool: Pool, observer: CommandObserver
    ) -> None:
        self.name = name
        self.settings = settings
        self.limits = limits
        self.tools = Tools(**settings.commands.overrides())
        self.slots = SlotRules(settings.max_running, settings.one_until_proved)
        self.rules = renewal_rules(settings, limits, self.tools)
        self.ssh = CvmGroup(
            name,
            [cvm_host(settings, cvm) for cvm in settings.cvms],
            pool,
            self.tools,
            max_output_bytes=limits.max_output_bytes,
            observer=observer,
        )
        self._listing: Listing | None = None
        self._listing_task: asyncio.Task[Listing] | None = None

    async def listing(self, *, max_age_s: float) -> Listing:
        """A listing not older than `max_age_s`; concurrent callers share one request. Raises a Fault."""
        listing = self._listing
        if listing is not None and time.monotonic() - listing.read_s <= max_age_s:
            return listing
        if self._listing_task is None:
            self._listing_task = asyncio.get_running_loop().create_task(self._read_listing())
            self._listing_task.add_done_callback(self._listing_read)
        return await asyncio.shield(self._listing_task)

    def _listing_read(self, reading: asyncio.Task[Listing]) -> None:
        self._listing_task = None
        if not reading.cancelled():
            # Every waiter may have been cancelled: reading the exception here keeps a stop out of the error log.
            reading.exception()

    async def _read_listing(self) -> Listing:
        command = list_vms(self.tools, self.limits.listing_timeout_s)
        self._listing = await self._ask_until_parsed(lambda _: command, self._listing_of)
        return self._listing

    def _listing_of(self, asked: CvmAnswer) -> Listing:
        stdout = asked.result.stdout
        answer = read_listing(stdout)
        if answer.exit_status == KILLED:
            raise _took_too_long(asked, self.limits.listing_timeout_s)
        # An older CVM may mix the streams, so both are parsed when stdout alone is blank.
        if answer.is_blank:
            records = read_vm_listing(f"{stdout[answer.begin : answer.end]}\n{asked.result.stderr}")
        else:
            records = read_vm_listing(stdout, answer.begin, answer.end)
        return Listing(
            vms={record.vm_uuid: record for record in records},
            read_s=asked.answered_s,
            cvm=asked.cvm,
            text=asked.command.text,
            duration_s=asked.result.duration_s,
            exit_status=asked.result.exit_status,
        )

    async def _ask_until_parsed(
        self,
        build: BuildQuery,
        parse: Callable[[CvmAnswer], _Parsed],
        *,
        prefer: str | None = None,
    ) -> _Parsed:
        """The first answer that can be parsed. Raises the Fault of the first CVM when no CVM gives one.

        A CVM whose answer cannot be parsed is skipped like a CVM that is down.
        """
        causes: dict[str, Fault] = {}
        for cvm in dict.fromkeys((prefer, *self.ssh.hosts)):
            if cvm in causes:
                continue
            asked = await self.ssh.ask(build, prefer=cvm)
            if asked.cvm in causes:
                continue
            try:
                return await _parse_in_thread(parse, asked)
            except Fault as cause:
                causes[asked.cvm] = cause
        raise next(iter(causes.values()))

    async def query(self, wanted: Collection[VmUuid] | None = None, *, prefer: str | None = None) -> Query:
        """The VM tools entities of the `wanted` VMs (None: of all VMs). Raises a Fault, also for a torn answer."""

        def build(facts: ProbeFacts) -> QueryCommand:
            tools = self.tools.with_query_of(facts.sub_commands)
            if tools.query is None:
                raise Fault(
                    FaultCode.NOT_VERIFIABLE,
                    f"the CLI of {self.name} names no sub-command that lists VM tools entities; "
                    f"give it as `query` in [clusters.{self.name}.commands]",
                )
            return query_entities(tools, self.limits.look_timeout_s)

        return await self._ask_until_parsed(build, lambda asked: self._query_of(asked, wanted), prefer=prefer)

    def _query_of(self, asked: CvmAnswer, wanted: Collection[VmUuid] | None) -> Query:
        answer = read_query(asked.result.stdout)
        if answer.exit_status == KILLED:
            raise _took_too_long(asked, self.limits.look_timeout_s)
        if answer.clock_s is None or answer.exit_status != 0:
            said = (asked.result.stderr.strip() or answer.body.strip())[-300:]
            message = f"the query on {asked.cvm} failed with status {answer.exit_status}: {mask(said)}"
            raise Fault(FaultCode.UNEXPECTED_OUTPUT, message)
        found = find_entities(answer.body, wanted)
        return Query(
            entities=found.entities,
            other_count=found.other_count,
            cvm=asked.cvm,
            cvm_ahead_s=answer.clock_s - asked.answered_s,
            read_s=asked.answered_s,
            refresh_offered=_offers_refresh(self.tools, asked.facts),
            asked=asked,
        )


async def _parse_in_thread(parse: Callable[[CvmAnswer], _Parsed], asked: CvmAnswer) -> _Parsed:
    """A listing may have megabytes, and the loop serves other requests meanwhile."""
    if len(asked.result.stdout) < _LARGE:
        return parse(asked)
    return await asyncio.get_running_loop().run_in_executor(_PARSER, parse, asked)


def _took_too_long(asked: CvmAnswer, limit_s: float) -> Fault:
    message = f"the {asked.command.name} on {asked.cvm} gave no answer within {limit_s:g} s"
    return Fault(FaultCode.COMMAND_TIMEOUT, message)


def _offers_refresh(tools: Tools, facts: ProbeFacts) -> bool:
    """An operator who gives the command line knows that it works."""
    return tools.refresh != Tools().refresh or "refresh_vm_tools_entity" in facts.sub_commands
