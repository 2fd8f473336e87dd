"""The control port: another process gives orders to a site and asks about it, in lines of JSON on loopback.

A request is `{"do": <name>, …}`, its answer `{"ok": …}` or `{"error": "…"}`. A host has its name of the journal, a VM
its UUID.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from app.simulator.faults import Does, Shell, ToolFault
from app.simulator.host import SimulatedHost
from app.simulator.site import Site

_VM_SWITCHES = ("slot_taken", "link_whatever_the_certificate", "agent_answers", "pickup_delay_s")
_HOST_SWITCHES = ("login_refused", "session_limit", "gateway_down", "hangs")


class Control:
    """The loopback port of one site. `port` raises RuntimeError before `start`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        if self._server is None:
            message = "the control port has not been opened"
            raise RuntimeError(message)
        port = self._server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._open):
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            # The other process may end at any time.
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            order = _ORDERS[request.pop("do")]
            return {"ok": await order(self._site, request)}
        except (KeyError, LookupError, TypeError, ValueError, RuntimeError, OSError) as wrong:
            return {"error": f"{type(wrong).__name__}: {wrong}"}


async def _fault(site: Site, request: Mapping[str, Any]) -> None:
    """Orders a fault of a tool: the fields of `ToolFault`, `does` by its value."""
    fields = {**request, "does": Does(request["does"])}
    if "words" in fields:
        fields["words"] = tuple(fields["words"])
    site.order(ToolFault(**fields))


async def _clear_faults(site: Site, _: Mapping[str, Any]) -> None:
    site.faults.clear()


async def _vm(site: Site, request: Mapping[str, Any]) -> None:
    """Sets the behaviour of a VM: `powered_on`, or one of `_VM_SWITCHES`."""
    vm_uuid = request["vm_uuid"]
    vm = site.vm(vm_uuid)
    for name, value in request.items():
        if name == "powered_on":
            await site.switch_power(vm_uuid, on=bool(value))
        elif name in _VM_SWITCHES:
            setattr(vm, name, value)


async def _restart_agent(site: Site, request: Mapping[str, Any]) -> None:
    site.cluster_of(request["vm_uuid"]).restart_agent(request["vm_uuid"])


async def _host(site: Site, request: Mapping[str, Any]) -> None:
    """Sets the behaviour of a host: `up`, `wrong_host_key`, `shell`, or a field of `HostFaults`."""
    host = site.host(request["host"])
    for name, value in request.items():
        if name in _HOST_SWITCHES:
            setattr(host.faults, name, value)
        elif name == "shell":
            host.faults.shell = Shell(value)
        elif name == "up":
            await (host.up() if value else host.down())
        elif name == "wrong_host_key":
            _set_host_key(host, wrong=bool(value))


def _set_host_key(host: SimulatedHost, *, wrong: bool) -> None:
    if wrong:
        host.serve_wrong_host_key()
    else:
        host.serve_own_host_key()


async def _cut(site: Site, request: Mapping[str, Any]) -> None:
    site.host(request["host"]).cut_all()


async def _latency(site: Site, request: Mapping[str, Any]) -> None:
    """Sets the latency of a tool: `tool`, `seconds`."""
    site.tool_port.latency_s[request["tool"]] = float(request["seconds"])


async def _journal(site: Site, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records that began after number `after`, of one `kind` where it is named."""
    after, kind = request.get("after", 0), request.get("kind")
    return [
        asdict(record) for record in site.journal.records if record.number > after and kind in (None, record.kind.value)
    ]


async def _summary(site: Site, _: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that tests need most."""
    journal = site.journal
    hosts = [host.name for cvms in site.cvms.values() for host in cvms]
    return {
        "logins": {host: journal.logins(host) for host in hosts},
        "peak_sessions": {host: journal.peak_sessions[host] for host in hosts},
        "listings": {name: journal.listings(name) for name in site.clusters},
        "overlapping_changes": [[one.text, other.text] for one, other in journal.overlapping_changes()],
        "peak_without_entity": {name: journal.peak_without_entity(name) for name in site.clusters},
        "without_entity": {name: sorted(journal.without_entity(name)) for name in site.clusters},
        "violations": journal.violations(),
        "calls": journal.call_counts(),
    }


async def _state(site: Site, _: Mapping[str, Any]) -> dict[str, Any]:
    return {vm.uuid: site.state_of(vm.uuid) for cluster in site.clusters.values() for vm in cluster.vms.values()}


_ORDERS: dict[str, Callable[[Site, Mapping[str, Any]], Awaitable[object]]] = {
    "fault": _fault,
    "clear_faults": _clear_faults,
    "vm": _vm,
    "restart_agent": _restart_agent,
    "host": _host,
    "cut": _cut,
    "latency": _latency,
    "journal": _journal,
    "summary": _summary,
    "state": _state,
}


async def order(port: int, do: str, **fields: object) -> Any:  # noqa: ANN401 - the answer of an order is any JSON.
    """Sends one order to the control port of another process; raises RuntimeError with its refusal."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 28)
    try:
        writer.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        answer = json.loads(await reader.readline())
    finally:
        writer.close()
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["ok"]
