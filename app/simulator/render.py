"""The output of the tools, as in the recordings: log lines, protobuf text, ncli's records and its JSON."""

import json
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from app.simulator.model import SimulatedCluster, SimulatedVm
from app.simulator.spec import LogLines, ReportedExpiry

_HOST_ID = "1591223829"
_HOST_UUID = "92dad1eb-6562-4489-aca2-5e15ca07adc4"
_HOST_NAME = "NX-AHV-2"
_BLOCK = "17sm6c100126"


def cvm_hostname(number: int) -> str:
    return f"ntnx-{_BLOCK}-{chr(ord('a') + number % 26)}-cvm"


def log_lines(generation: LogLines, *, hostname: str, address: str, now: float) -> str:
    """The lines that `nutanix_guest_tools_cli` writes to stderr before its answer."""
    high, low, pid = secrets.randbelow(0xFFFF), secrets.randbelow(0xFFF), 1000 + secrets.randbelow(200_000)
    at = datetime.fromtimestamp(now, UTC)
    stamp = f"I{at:%Y%m%d %H:%M:%S.%f}Z {pid}"
    if generation is LogLines.Y2020:
        stamp = f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03}Z:{pid}"
    return _LOG_LINES[generation].format(
        main=f"{stamp}(0x7f{high:04x}eaaa80)",
        other=f"{stamp}(0x7f{high:04x}e1f700)",
        hostname=hostname,
        server=f"{address}:9876",
        session=f"0x176217{high:04x}{low:05x}",
        watcher=f"0x5650{high:04x}{low:03x}0",
        context=f"0x7ffe{high:04x}{low:03x}0",
    )


_LOG_LINES = {
    LogLines.Y2020: """\
{main}:ZOO_INFO@log_env@960: Client environment:zookeeper.version=zookeeper C client 3.4.3
{main}:ZOO_INFO@log_env@964: Client environment:host.name={hostname}
{main}:ZOO_INFO@log_env@971: Client environment:os.name=Linux
{main}:ZOO_INFO@log_env@972: Client environment:os.arch=3.10.0-1127.19.1.el7.nutanix.20201004.cvm.x86_64
{main}:ZOO_INFO@log_env@973: Client environment:os.version=#1 SMP Sun Oct 4 12:55:45 UTC 2020
{main}:ZOO_INFO@zookeeper_init@1008: Initiating client connection, host=zk3:9876,zk2:9876,zk1:9876 \
sessionTimeout=20000 watcher={watcher} sessionId=0 sessionPasswd=<null> context={context} flags=0
{other}:ZOO_INFO@zookeeper_interest@1954: Connecting to server {server}
{other}:ZOO_INFO@zookeeper_interest@1991: \
Zookeeper handle state changed to ZOO_CONNECTING_STATE for socket [{server}]
{other}:ZOO_INFO@check_events@2191: initiated connection to server [{server}]
{other}:ZOO_INFO@check_events@2239: \
session establishment complete on server [{server}], sessionId={session}, negotiated timeout=20000
{main}:ZOO_INFO@zookeeper_close@3104: Closing zookeeper sessionId={session} to [{server}]
""",
    LogLines.Y2025: """\
{main} zookeeper_init:994] Initiating client connection, host=zk1:9876,zk2:9876,zk3:9876 \
sessionTimeout=20000 watcher={watcher} sessionId=0 sessionPasswd=<null> context={context} flags=0
{other} zookeeper_interest:1950] Connecting to server {server}
{other} zookeeper_interest:1987] Zookeeper handle state changed to ZOO_CONNECTING_STATE for socket [{server}]
{other} check_events:2196] initiated connection to server [{server}]
{other} check_events:2244] \
session establishment complete on server [{server}], sessionId={session}, negotiated timeout=20000
{main} zookeeper_close:3142] Closing zookeeper sessionId={session} to [{server}]
""",
}


def results(words: Iterable[str], *, one_line: bool = False) -> str:
    """The answer lines `result_vec: …`, one for each word, or all on one line."""
    lines = (f"result_vec: {word}" for word in words)
    return " ".join(lines) + "\n" if one_line else "".join(f"{line}\n" for line in lines)


def vm_info_vec(cluster: SimulatedCluster, vm: SimulatedVm) -> str:
    """A VM's block in the answer of `query_vm_tools_entities`; empty for a VM without an entity."""
    entity = vm.entity
    if entity is None:
        return ""
    active = cluster.communication_link_active(vm)
    over_serial_port = cluster.traits.serial_port
    lines = [
        f"  vm_uuid: {_quoted(vm.uuid)}",
        f"  vm_name: {_quoted(vm.name)}",
        f"  ngt_uuid: {_quoted(entity.ngt_uuid)}",
        "  guest_tools_enabled: true",
        f"  tools_mounted: {_word(entity.tools_mounted)}",
        "  capabilities {",
        f"    vss_snapshot: {_word(entity.vss_snapshot)}",
        f"    file_level_restore: {_word(entity.file_level_restore)}",
        "  }",
        *(["  communication_type: kSerialPort"] if over_serial_port else []),
        f"  communication_link_active: {_word(active)}",
        f"  communication_link_over_serial_port_active: {_word(active and over_serial_port)}",
        "  client_certificates_generated: true",
    ]
    if entity.reported_os is not None:
        lines += ["  vm_info {", '    ngt_version: "4.1"', f"    guest_os_type: {_quoted(entity.reported_os)}"]
        if entity.reported_expiry is not None and cluster.traits.reported_expiry is not ReportedExpiry.ABSENT:
            lines.append(f"    client_cert_expiry_date: {entity.reported_expiry}")
        lines.append("  }")
    return "\n".join(["vm_info_vec {", *lines, "}\n"])


def ncli_ngt(cluster: SimulatedCluster, vm: SimulatedVm) -> list[tuple[str, str]]:
    """The record of `ncli ngt get`."""
    entity = vm.entity
    return [
        ("VM Id", f"{cluster.identifier}::{vm.uuid}"),
        ("VM Name", vm.name),
        ("NGT Enabled", _word(entity is not None)),
        ("Tools ISO Mounted", _word(entity is not None and entity.tools_mounted)),
        ("Vss Snapshot", _word(entity is not None and entity.vss_snapshot)),
        ("File Level Restore", _word(entity is not None and entity.file_level_restore)),
        ("Communication Link Active", _word(cluster.communication_link_active(vm))),
    ]


def ncli_vm(cluster: SimulatedCluster, vm: SimulatedVm) -> list[tuple[str, str]]:
    """The record of `ncli vm list`."""
    return [
        ("Id", f"{cluster.identifier}::{vm.uuid}"),
        ("Uuid", f"{vm.uuid}  "),
        ("Name", vm.name),
        ("VM IP Addresses", ", ".join(vm.addresses)),
        ("Hypervisor Host Id", f"{cluster.identifier}::{_HOST_ID}"),
        ("Hypervisor Host Uuid", _HOST_UUID),
        ("Hypervisor Host Name", _HOST_NAME),
        ("Memory", "4 GiB (4,294,967,296 bytes)"),
        ("Virtual CPUs", "2"),
        ("VDisk Count", "1"),
        ("VDisks", f"{cluster.identifier}::NFS:4:0:313"),
        ("Protection Domain", ""),
        ("Consistency Group", ""),
    ]


def ncli_records(records: Iterable[list[tuple[str, str]]]) -> str:
    """Records as ncli prints them: four blanks, the key padded to 26, a colon, the value."""
    blocks = ["".join(f"    {key:26}:{f' {value}' if value else ''}\n" for key, value in one) for one in records]
    return "\n".join(blocks) or "    [None]\n"


def json_answer(content: object, *, status: int = 0) -> str:
    """Ncli's one line of JSON; with another status than 0 `content` is the message."""
    return json.dumps({"data": content, "status": status}, ensure_ascii=False, separators=(",", ":")) + "\n"


def json_vm(cluster: SimulatedCluster, vm: SimulatedVm) -> dict[str, Any]:
    """One VM of `ncli vm ls --json=true`, with the whole NGT state."""
    padding = cluster.traits.listing_padding_bytes
    return {
        "vmId": f"{cluster.identifier}::{vm.uuid}",
        "uuid": vm.uuid,
        "powerState": "on" if vm.powered_on else "off",
        "vmName": vm.name,
        "ipAddresses": list(vm.addresses),
        "hypervisorType": "kKvm",
        "nutanixGuestTools": json_ngt(cluster, vm),
        "vmType": "kGuestVM",
        "displayable": False,
        "acropolisVm": True,
        "runningOnNdfs": True,
        "controllerVm": vm.controller_vm,
        **({"vdiskFilePaths": ["x" * padding]} if padding else {}),
    }


def json_ngt(cluster: SimulatedCluster, vm: SimulatedVm) -> dict[str, Any]:
    """One VM's NGT state in ncli's JSON."""
    entity = vm.entity
    return {
        "vmId": f"{cluster.identifier}::{vm.uuid}",
        "vmUuid": vm.uuid,
        "enabled": entity is not None,
        "applications": {
            "vss_snapshot": entity is not None and entity.vss_snapshot,
            "file_level_restore": entity is not None and entity.file_level_restore,
        },
        "toolsMounted": entity is not None and entity.tools_mounted,
        "vmName": vm.name,
        "communicationLinkActive": cluster.communication_link_active(vm),
        "toRemove": False,
    }


def _word(value: bool) -> str:  # noqa: FBT001 - It renders a boolean.
    return "true" if value else "false"


_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", ord("'"): "\\'"}


def _quoted(text: str) -> str:
    """Quotes by the rules of protobuf's text format: bytes other than printable ASCII in octal."""
    escaped = "".join(
        _ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}")  # noqa: PLR2004 - ASCII's bounds.
        for byte in text.encode()
    )
    return f'"{escaped}"'
