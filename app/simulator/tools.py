"""The tools of a CVM: what `nutanix_guest_tools_cli` and `ncli` do to a cluster for an argv, and what they print."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from app.simulator import render
from app.simulator.faults import Does, ToolFault
from app.simulator.journal import uuids_in
from app.simulator.model import NO_ERROR, NO_FREE_CDROM_SLOT, Cluster, Vm
from app.simulator.spec import Refresh

GUEST_TOOLS_CLI = "nutanix_guest_tools_cli"
NCLI = "ncli"
TOOLS = (GUEST_TOOLS_CLI, NCLI)

GATEWAY_DOWN = "Error: Could not connect to Nutanix Gateway\n"
GARBAGE = "\x1b[?1049h%%% \ufffd\ufffd Segmentation fault (core dumped) }}{\n"


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a tool: its argv on a CVM of a cluster. `number` counts the CVMs of the cluster from 0."""

    tool: str
    arguments: tuple[str, ...]
    cluster: Cluster
    number: int = 0

    @property
    def sub_command(self) -> str:
        """The name that faults and questions to the journal use: `create_vm_tools_entity`, `ngt get`."""
        length = 2 if self.tool == NCLI else 1
        return " ".join(_words(self.arguments)[:length])

    @property
    def vm_uuids(self) -> tuple[str, ...]:
        """The VMs that the argv names."""
        return uuids_in(" ".join(self.arguments))

    @property
    def text(self) -> str:
        """The argv as one would type it."""
        return shlex.join((self.tool, *self.arguments))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run of a tool printed, and its exit status."""

    stdout: str = ""
    stderr: str = ""
    status: int = 0


def run(call: Call, *, fault: ToolFault | None = None, gateway_down: bool = False) -> Answer:
    """Run a tool: change the cluster and give what is printed. A cut line or a delay is not its business."""
    for vm_uuid in call.vm_uuids or ("",):
        call.cluster.settle(vm_uuid)
    if call.tool == NCLI:
        return _run_ncli(call, fault, gateway_down=gateway_down)
    return _run_guest_tools_cli(call, fault)


def _run_guest_tools_cli(call: Call, fault: ToolFault | None) -> Answer:
    sub_command = call.sub_command
    if sub_command not in _offered(call.cluster):
        return Answer(stderr=_usage(call.cluster), status=1)
    stderr = render.log_lines(
        call.cluster.traits.log_lines,
        hostname=render.cvm_hostname(call.number),
        address=_cvm_address(call),
        now=call.cluster.clock(),
    )
    if fault is not None and fault.does is Does.REFUSE:
        return Answer(render.results(fault.words, one_line=fault.one_line), stderr)
    stdout = _GUEST_TOOLS[sub_command](call)
    match fault.does if fault is not None else None:
        case Does.ANSWER if fault is not None:
            return Answer(render.results(fault.words, one_line=fault.one_line), stderr)
        case Does.GARBAGE:
            return Answer(GARBAGE, stderr)
        case Does.NO_ANSWER:
            return Answer("", stderr)
        case _:
            return Answer(stdout, stderr)


def _run_ncli(call: Call, fault: ToolFault | None, *, gateway_down: bool) -> Answer:
    if gateway_down:
        return Answer(GATEWAY_DOWN, status=1)
    wants_json = any(argument.lstrip("-") == "json=true" for argument in call.arguments)
    if wants_json and not call.cluster.traits.ncli_json:
        return Answer("Error: Unrecognized option: json\n", status=1)
    if call.sub_command not in _NCLI:
        return Answer(f"Error: Command '{' '.join(call.arguments)}' not found. Try help.\n", status=1)
    if fault is not None and fault.does is Does.REFUSE:
        return _ncli_error(" ".join(fault.words), wants_json=wants_json)
    answer = _NCLI[call.sub_command](call, wants_json)
    match fault.does if fault is not None else None:
        case Does.ANSWER if fault is not None:
            return _ncli_error(" ".join(fault.words), wants_json=wants_json)
        case Does.GARBAGE:
            return Answer(GARBAGE)
        case Does.NO_ANSWER:
            return Answer()
        case _:
            return answer


def _delete(call: Call) -> str:
    return render.results([call.cluster.delete_vm_tools_entity(vm_uuid) for vm_uuid in call.vm_uuids])


def _create(call: Call) -> str:
    return render.results([call.cluster.create_vm_tools_entity(vm_uuid) for vm_uuid in call.vm_uuids])


def _mount(call: Call) -> str:
    return render.results([call.cluster.mount_guest_tools(vm_uuid) for vm_uuid in call.vm_uuids])


def _refresh(call: Call) -> str:
    threshold = _value(call.arguments, "threshold_days")
    return render.results(call.cluster.refresh_vm_tools_entity(call.vm_uuids, float(threshold) if threshold else None))


def _query(call: Call) -> str:
    asked = call.vm_uuids
    vms = [vm for vm in call.cluster.vms.values() if not asked or vm.uuid in asked]
    return "".join(render.vm_info_vec(call.cluster, vm) for vm in vms)


def _master_location(call: Call) -> str:
    return f"Master's handle: {_cvm_address(call)}:2073\nMaster's incarnation ID: 529406\n"


_GUEST_TOOLS: dict[str, Callable[[Call], str]] = {
    "create_vm_tools_entity": _create,
    "delete_vm_tools_entity": _delete,
    "get_master_location": _master_location,
    "mount_guest_tools": _mount,
    "query_vm_tools_entities": _query,
    "refresh_vm_tools_entity": _refresh,
}


def _offered(cluster: Cluster) -> tuple[str, ...]:
    has_refresh = cluster.traits.refresh is not Refresh.ABSENT
    return tuple(name for name in _GUEST_TOOLS if has_refresh or name != "refresh_vm_tools_entity")


def _usage(cluster: Cluster) -> str:
    commands = "".join(f"  {name}\n" for name in _offered(cluster))
    return f"Usage: {GUEST_TOOLS_CLI} <command> [arguments]\n\nCommands:\n{commands}"


def _vm_list(call: Call, wants_json: bool) -> Answer:  # noqa: FBT001 - All of ncli's functions have one form.
    name = _value(call.arguments, "name")
    vms = [vm for vm in call.cluster.vms.values() if name in (None, vm.name)]
    if call.vm_uuids:
        vms = [vm for vm in vms if vm.uuid in call.vm_uuids]
    if wants_json:
        return Answer(render.json_answer([render.json_vm(call.cluster, vm) for vm in vms]))
    return Answer(render.ncli_records(render.ncli_vm(call.cluster, vm) for vm in vms))


def _ngt_list(call: Call, wants_json: bool) -> Answer:  # noqa: FBT001 - All of ncli's functions have one form.
    return _ngt_answer(call, [vm for vm in call.cluster.vms.values() if vm.entity is not None], wants_json=wants_json)


def _ngt_get(call: Call, wants_json: bool) -> Answer:  # noqa: FBT001 - All of ncli's functions have one form.
    vms = [call.cluster.vms[vm_uuid] for vm_uuid in call.vm_uuids if vm_uuid in call.cluster.vms]
    return _ngt_answer(call, [vm for vm in vms if vm.entity is not None], wants_json=wants_json)


def _ngt_mount(call: Call, wants_json: bool) -> Answer:  # noqa: FBT001 - All of ncli's functions have one form.
    return _ngt_changed(call, call.cluster.mount_guest_tools(_one(call)), wants_json=wants_json)


def _enable(call: Call, wants_json: bool) -> Answer:  # noqa: FBT001 - All of ncli's functions have one form.
    return _applications(call, enabled=True, wants_json=wants_json)


def _disable(call: Call, wants_json: bool) -> Answer:  # noqa: FBT001 - All of ncli's functions have one form.
    return _applications(call, enabled=False, wants_json=wants_json)


_NCLI: dict[str, Callable[[Call, bool], Answer]] = {
    "vm list": _vm_list,
    "vm ls": _vm_list,
    "ngt get": _ngt_get,
    "ngt list": _ngt_list,
    "ngt ls": _ngt_list,
    "ngt mount": _ngt_mount,
    "ngt enable-applications": _enable,
    "ngt disable-applications": _disable,
}


def _applications(call: Call, *, enabled: bool, wants_json: bool) -> Answer:
    setters = {
        "vss_snapshot": call.cluster.set_vss_snapshot,
        "file_level_restore": call.cluster.set_file_level_restore,
    }
    names = (_value(call.arguments, "application-names") or "").split(",")
    if any(name not in setters for name in names):
        return _ncli_error(f"Invalid value for application-names: {','.join(names)}", wants_json=wants_json)
    words = [setters[name](_one(call), enabled=enabled) for name in names]
    return _ngt_changed(call, next((word for word in words if word != NO_ERROR), NO_ERROR), wants_json=wants_json)


def _ngt_changed(call: Call, word: str, *, wants_json: bool) -> Answer:
    if word == NO_ERROR:
        return _ngt_answer(call, [call.cluster.vms[_one(call)]], wants_json=wants_json)
    if word == NO_FREE_CDROM_SLOT:
        return _ncli_error(f"Failed to mount Nutanix Guest Tools: {word}", wants_json=wants_json)
    return _ncli_error(f"Nutanix Guest Tools: {word}", wants_json=wants_json)


def _ngt_answer(call: Call, vms: list[Vm], *, wants_json: bool) -> Answer:
    if wants_json:
        return Answer(render.json_answer([render.json_ngt(call.cluster, vm) for vm in vms]))
    return Answer(render.ncli_records(render.ncli_ngt(call.cluster, vm) for vm in vms))


def _ncli_error(message: str, *, wants_json: bool) -> Answer:
    return Answer(render.json_answer(message, status=1) if wants_json else f"Error: {message}\n", status=1)


def _one(call: Call) -> str:
    return call.vm_uuids[0] if call.vm_uuids else ""


def _words(arguments: tuple[str, ...]) -> list[str]:
    return [argument for argument in arguments if not argument.startswith("-") and "=" not in argument]


def _value(arguments: tuple[str, ...], key: str) -> str | None:
    for argument in arguments:
        if argument.startswith(f"{key}="):
            return argument.removeprefix(f"{key}=")
    return None


def _cvm_address(call: Call) -> str:
    return f"192.168.3.{111 + call.number}"
