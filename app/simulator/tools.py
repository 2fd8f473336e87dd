"""The tools of a CVM: the effect of `nutanix_guest_tools_cli` and `ncli` on a cluster, and their output."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from app.simulator import render
from app.simulator.faults import Does, ToolFault
from app.simulator.journal import uuids_in
from app.simulator.model import NO_ERROR, NO_FREE_CDROM_SLOT, SimulatedCluster, SimulatedVm
from app.simulator.spec import Refresh

GUEST_TOOLS_CLI = "nutanix_guest_tools_cli"
NCLI = "ncli"
TOOLS = (GUEST_TOOLS_CLI, NCLI)
_APPLICATIONS = ("vss_snapshot", "file_level_restore")

GATEWAY_DOWN = "Error: Could not connect to Nutanix Gateway\n"
GARBAGE = "\x1b[?1049h%%% \ufffd\ufffd Segmentation fault (core dumped) }}{\n"


@dataclass(frozen=True, slots=True)
class ToolCommand:
    """One run of a tool on a CVM. `number` counts the CVMs of the cluster from 0."""

    tool: str
    arguments: tuple[str, ...]
    cluster: SimulatedCluster
    number: int = 0

    @property
    def sub_command(self) -> str:
        """Its name for faults and for the journal: `create_vm_tools_entity`, `ngt get`."""
        length = 2 if self.tool == NCLI else 1
        return " ".join(_words(self.arguments)[:length])

    @property
    def vm_uuids(self) -> tuple[str, ...]:
        return uuids_in(" ".join(self.arguments))

    @property
    def wants_json(self) -> bool:
        return any(argument.lstrip("-") == "json=true" for argument in self.arguments)

    @property
    def text(self) -> str:
        """The command as a person would type it."""
        return shlex.join((self.tool, *self.arguments))


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The output and the exit status of a run of a tool."""

    stdout: str = ""
    stderr: str = ""
    status: int = 0


def run(call: ToolCommand, *, fault: ToolFault | None = None, gateway_down: bool = False) -> ToolOutput:
    """Changes the cluster and returns the output. `ToolPort` cuts and delays."""
    for vm_uuid in call.vm_uuids or ("",):
        call.cluster.settle(vm_uuid)
    refusal = _ncli_refusal(call, gateway_down=gateway_down) if call.tool == NCLI else _guest_tools_refusal(call)
    if refusal is not None:
        return refusal
    answer = ToolOutput() if fault is not None and fault.does is Does.REFUSE else _perform(call)
    if fault is None:
        return answer
    match fault.does:
        case Does.REFUSE | Does.ANSWER:
            return _ordered_answer(call, fault)
        case Does.GARBAGE:
            return replace(answer, stdout=GARBAGE)
        case Does.NO_ANSWER:
            return replace(answer, stdout="")
        case _:
            return answer


def _guest_tools_refusal(call: ToolCommand) -> ToolOutput | None:
    return None if call.sub_command in _offered(call.cluster) else ToolOutput(stderr=_usage(call.cluster), status=1)


def _ncli_refusal(call: ToolCommand, *, gateway_down: bool) -> ToolOutput | None:
    if gateway_down:
        return ToolOutput(GATEWAY_DOWN, status=1)
    if call.wants_json and not call.cluster.traits.ncli_json:
        return ToolOutput("Error: Unrecognized option: json\n", status=1)
    if call.sub_command not in _NCLI:
        return ToolOutput(f"Error: Command '{' '.join(call.arguments)}' not found. Try help.\n", status=1)
    return None


def _perform(call: ToolCommand) -> ToolOutput:
    if call.tool == NCLI:
        return _NCLI[call.sub_command](call)
    return ToolOutput(_GUEST_TOOLS[call.sub_command](call), _log_lines(call))


def _ordered_answer(call: ToolCommand, fault: ToolFault) -> ToolOutput:
    if call.tool == NCLI:
        return _ncli_error(call, " ".join(fault.words))
    return ToolOutput(render.results(fault.words, one_line=fault.one_line), _log_lines(call))


def _log_lines(call: ToolCommand) -> str:
    return render.log_lines(
        call.cluster.traits.log_lines,
        hostname=render.cvm_hostname(call.number),
        address=_cvm_address(call),
        now=call.cluster.clock(),
    )


def _for_each_vm(act: Callable[[SimulatedCluster, str], str]) -> Callable[[ToolCommand], str]:
    return lambda call: render.results([act(call.cluster, vm_uuid) for vm_uuid in call.vm_uuids])


def _refresh(call: ToolCommand) -> str:
    threshold = _value(call.arguments, "threshold_days")
    return render.results(call.cluster.refresh_vm_tools_entity(call.vm_uuids, float(threshold) if threshold else None))


def _query(call: ToolCommand) -> str:
    asked = call.vm_uuids
    vms = [vm for vm in call.cluster.vms.values() if not asked or vm.uuid in asked]
    return "".join(render.vm_info_vec(call.cluster, vm) for vm in vms) or render.results([NO_ERROR])


def _master_location(call: ToolCommand) -> str:
    return f"Master's handle: {_cvm_address(call)}:2073\nMaster's incarnation ID: 529406\n"


_GUEST_TOOLS: dict[str, Callable[[ToolCommand], str]] = {
    "create_vm_tools_entity": _for_each_vm(SimulatedCluster.create_vm_tools_entity),
    "delete_vm_tools_entity": _for_each_vm(SimulatedCluster.delete_vm_tools_entity),
    "get_master_location": _master_location,
    "mount_guest_tools": _for_each_vm(SimulatedCluster.mount_guest_tools),
    "query_vm_tools_entities": _query,
    "refresh_vm_tools_entity": _refresh,
}


def _offered(cluster: SimulatedCluster) -> tuple[str, ...]:
    has_refresh = cluster.traits.refresh is not Refresh.ABSENT
    return tuple(name for name in _GUEST_TOOLS if has_refresh or name != "refresh_vm_tools_entity")


def _usage(cluster: SimulatedCluster) -> str:
    commands = "".join(f"  {name}\n" for name in _offered(cluster))
    return f"Usage: {GUEST_TOOLS_CLI} <command> [arguments]\n\nCommands:\n{commands}"


def _vm_list(call: ToolCommand) -> ToolOutput:
    name = _value(call.arguments, "name")
    vms = [vm for vm in call.cluster.vms.values() if name in (None, vm.name)]
    if call.vm_uuids:
        vms = [vm for vm in vms if vm.uuid in call.vm_uuids]
    if call.wants_json:
        return ToolOutput(render.json_answer([render.json_vm(call.cluster, vm) for vm in vms]))
    return ToolOutput(render.ncli_records(render.ncli_vm(call.cluster, vm) for vm in vms))


def _ngt_list(call: ToolCommand) -> ToolOutput:
    return _ngt_answer(call, [vm for vm in call.cluster.vms.values() if vm.entity is not None])


def _ngt_get(call: ToolCommand) -> ToolOutput:
    vms = [call.cluster.vms[vm_uuid] for vm_uuid in call.vm_uuids if vm_uuid in call.cluster.vms]
    return _ngt_answer(call, [vm for vm in vms if vm.entity is not None])


def _ngt_mount(call: ToolCommand) -> ToolOutput:
    return _ngt_changed(call, call.cluster.mount_guest_tools(_one(call)))


def _applications(call: ToolCommand, *, enabled: bool) -> ToolOutput:
    names = (_value(call.arguments, "application-names") or "").split(",")
    if any(name not in _APPLICATIONS for name in names):
        return _ncli_error(call, f"Invalid value for application-names: {','.join(names)}")
    words = [call.cluster.set_capability(_one(call), name, enabled=enabled) for name in names]
    return _ngt_changed(call, next((word for word in words if word != NO_ERROR), NO_ERROR))


_NCLI: dict[str, Callable[[ToolCommand], ToolOutput]] = {
    "vm list": _vm_list,
    "vm ls": _vm_list,
    "ngt get": _ngt_get,
    "ngt list": _ngt_list,
    "ngt ls": _ngt_list,
    "ngt mount": _ngt_mount,
    "ngt enable-applications": partial(_applications, enabled=True),
    "ngt disable-applications": partial(_applications, enabled=False),
}


def _ngt_changed(call: ToolCommand, word: str) -> ToolOutput:
    if word == NO_ERROR:
        return _ngt_answer(call, [call.cluster.vms[_one(call)]])
    if word == NO_FREE_CDROM_SLOT:
        return _ncli_error(call, f"Failed to mount Nutanix Guest Tools: {word}")
    return _ncli_error(call, f"Nutanix Guest Tools: {word}")


def _ngt_answer(call: ToolCommand, vms: list[SimulatedVm]) -> ToolOutput:
    if call.wants_json:
        return ToolOutput(render.json_answer([render.json_ngt(call.cluster, vm) for vm in vms]))
    return ToolOutput(render.ncli_records(render.ncli_ngt(call.cluster, vm) for vm in vms))


def _ncli_error(call: ToolCommand, message: str) -> ToolOutput:
    return ToolOutput(render.json_answer(message, status=1) if call.wants_json else f"Error: {message}\n", status=1)


def _one(call: ToolCommand) -> str:
    return call.vm_uuids[0] if call.vm_uuids else ""


def _words(arguments: tuple[str, ...]) -> list[str]:
    return [argument for argument in arguments if not argument.startswith("-") and "=" not in argument]


def _value(arguments: tuple[str, ...], key: str) -> str | None:
    for argument in arguments:
        if argument.startswith(f"{key}="):
            return argument.removeprefix(f"{key}=")
    return None


def _cvm_address(call: ToolCommand) -> str:
    return f"192.168.3.{111 + call.number}"
