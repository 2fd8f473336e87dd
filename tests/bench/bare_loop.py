"""The other contender: asyncssh and nothing else. It sends what the service sends, and keeps and proves nothing."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncssh

from app.ngt.tools.change_command import ToolCall, build_change
from app.ngt.tools.command_lines import Tools, for_vm
from app.ngt.tools.ncli_vms import read_vm_listing
from app.ngt.tools.query_commands import list_vms, query_entities, read_listing
from app.settings import ClusterSettings, GuestSettings, Limits, split_address

_QUERY = "query_vm_tools_entities"
_START_WINDOW_S = 300


@dataclass(slots=True)
class BareLoop:
    """One connection to the CVM with as many sessions as the service has, and one to each guest while it is asked."""

    settings: ClusterSettings
    guests: dict[str, tuple[GuestSettings, str]] = field(default_factory=dict)
    _cvm: asyncssh.SSHClientConnection | None = None
    _sessions: asyncio.Semaphore = field(default_factory=asyncio.Semaphore)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        """Logs in, and lists the VMs once, as the service does once in five minutes."""
        settings = self.settings
        self._sessions = asyncio.Semaphore(settings.sessions_per_connection)
        address, port = split_address(settings.cvms[0])
        connecting = _connect(address, port, settings.username, settings.key_file, settings.known_hosts)
        self._cvm = await self._stack.enter_async_context(connecting)
        listing = await self._send(list_vms(self._tools, Limits().listing_timeout_s).text)
        place = read_listing(listing)
        for record in read_vm_listing(listing, place.begin, place.end):
            guest = settings.guest_for(record.name, record.addresses)
            if guest is not None:
                self.guests[record.vm_uuid] = guest
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def renew_all(self, vm_uuids: Sequence[str], at_a_time: int) -> float:
        """The seconds from the first text to the last answer."""
        begun_s = time.monotonic()
        turn = asyncio.Semaphore(at_a_time)

        async def one(vm_uuid: str) -> None:
            async with turn:
                await self._renew(vm_uuid)

        await asyncio.gather(*(one(vm_uuid) for vm_uuid in vm_uuids))
        return time.monotonic() - begun_s

    async def _renew(self, vm_uuid: str) -> None:
        """What the log of a renewal shows, in its order: `tests.bench` compares the counts."""
        guest, address = self.guests[vm_uuid]
        look = query_entities(self._tools, Limits().look_timeout_s).text
        connecting = _connect(address, guest.port, guest.username, guest.key_file, guest.known_hosts)
        async with connecting as connection:
            await asyncio.gather(self._send(look), _read(connection, guest))
            await self._change(
                "recreate_entity", vm_uuid, (("delete", self._tools.delete), ("create", self._tools.create))
            )
            await self._send(look)
            await self._change("mount_iso", vm_uuid, (("mount", self._tools.mount),))
            await connection.run(guest.restart_command)
            await _read(connection, guest)
            await self._send(look)

    async def _change(self, name: str, vm_uuid: str, lines: Sequence[tuple[str, str]]) -> None:
        calls = tuple(
            ToolCall(tool, for_vm(line, vm_uuid), 60, needs_previous=tool == "create")  # type: ignore[arg-type]  # A VM's UUID.
            for tool, line in lines
        )
        marker = "ngtr-0123456789abcdef0123"
        text = build_change(
            name, self._tools, calls, marker=marker, not_after_s=int(time.time()) + _START_WINDOW_S
        ).text
        if "kNoError" not in await self._send(text):
            raise RuntimeError(f"{name} of {vm_uuid} was refused")

    async def _send(self, text: str) -> str:
        assert self._cvm is not None
        async with self._sessions:
            return str((await self._cvm.run(text)).stdout)

    @property
    def _tools(self) -> Tools:
        return Tools(**self.settings.commands.overrides()).with_query_of(frozenset({_QUERY}))


async def _read(connection: asyncssh.SSHClientConnection, guest: GuestSettings) -> None:
    await connection.run(guest.read_certificate)
    await connection.run(guest.read_config)


def _connect(
    address: str, port: int, username: str, key_file: Path, known_hosts: Path
) -> "asyncssh.misc._ACMWrapper[asyncssh.SSHClientConnection]":
    return asyncssh.connect(
        address,
        port,
        username=username,
        client_keys=[str(key_file)],
        known_hosts=str(known_hosts),
        config=None,
        agent_path=None,
    )
