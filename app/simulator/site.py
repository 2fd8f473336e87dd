"""A whole simulated site: it listens, writes the keys, and gives the configuration that fits it."""

import errno
import ipaddress
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Self

import asyncssh

from app.simulator.cvm import Shells
from app.simulator.faults import ToolFault, ToolFaults
from app.simulator.guest import Guest
from app.simulator.host import SimulatedHost, listening_socket
from app.simulator.journal import Journal
from app.simulator.model import SimulatedCluster, SimulatedVm, make_cluster
from app.simulator.spec import ClusterSpec, Os, SiteSpec
from app.simulator.toolport import ToolPort

CVM_USER = "nutanix"
GUEST_USER = "ngt"
_BANNER = "Nutanix Controller VM\n"
_ATTEMPTS = 20


class Site:
    """The clusters, CVMs and guests of a `SiteSpec`, and the orders that they take.

    `cvms` and `guests` are the machines, by cluster and number and by VM UUID. The journal names a CVM `c1-cvm0` and a
    guest by the UUID of its VM.
    """

    def __init__(self, spec: SiteSpec, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.spec = spec
        self.directory = directory.resolve()
        self.journal = Journal(clock)
        self.faults = ToolFaults()
        self.clusters: dict[str, SimulatedCluster] = {}
        self.cvms: dict[str, list[SimulatedHost]] = {}
        self.guests: dict[str, SimulatedHost] = {}
        self.client_key_path = self.directory / "client_key"
        self.known_hosts_path = self.directory / "known_hosts"
        self._clock = clock
        self._client_key = asyncssh.generate_private_key("ssh-ed25519")
        self._guest_host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.tool_port = ToolPort(
            self.directory,
            journal=self.journal,
            faults=self.faults,
            latency_s=dict(spec.latency_s),
            cut=self._cut_exec,
        )
        self._shells = Shells(
            self.directory,
            journal=self.journal,
            profile_for=self.tool_port.profile_for,
            tools=self.tool_port.tools_directory,
        )
        for number, cluster_spec in enumerate(spec.clusters, 1):
            self._add_cluster(cluster_spec, number)

    @classmethod
    @asynccontextmanager
    async def running(
        cls, spec: SiteSpec, directory: Path, *, clock: Callable[[], float] = time.time
    ) -> AsyncIterator[Self]:
        """Runs a site with its files in `directory` until the context ends; then it leaves no process behind."""
        site = cls(spec, directory, clock=clock)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(site.stop)
            await site.start()
            yield site

    async def start(self) -> None:
        """Writes the keys and starts every machine that is switched on."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.client_key_path.touch(mode=0o600)
        self.client_key_path.chmod(0o600)
        self.client_key_path.write_bytes(self._client_key.export_private_key())
        await self.tool_port.start()
        for name, cvms in self.cvms.items():
            for number, host in enumerate(cvms):
                self.tool_port.add_cvm(host.name, self.clusters[name], number, host.faults)
        for host, listening in self._listening().items():
            await host.up(listening)
        self.write_known_hosts()

    async def stop(self) -> None:
        await self.tool_port.stop()
        for host in self._hosts():
            await host.down()
        await self._shells.kill_all()

    def vm(self, vm_uuid: str) -> SimulatedVm:
        """A VM of any cluster; raises LookupError."""
        return self.cluster_of(vm_uuid).vms[vm_uuid]

    def cluster_of(self, vm_uuid: str) -> SimulatedCluster:
        """The cluster of a VM; raises LookupError."""
        for cluster in self.clusters.values():
            if vm_uuid in cluster.vms:
                return cluster
        message = f"no cluster has the VM {vm_uuid}"
        raise LookupError(message)

    def vm_named(self, name: str) -> SimulatedVm:
        """The first VM of that name on any cluster; raises LookupError."""
        for cluster in self.clusters.values():
            for vm in cluster.vms.values():
                if vm.name == name:
                    return vm
        message = f"no cluster has a VM named {name}"
        raise LookupError(message)

    def host(self, name: str) -> SimulatedHost:
        """A CVM or a guest by its name in the journal; raises LookupError."""
        for host in self._hosts():
            if host.name == name:
                return host
        message = f"the site has no host {name}"
        raise LookupError(message)

    def state_of(self, vm_uuid: str) -> dict[str, object]:
        """The facts that tests check at the end: `renewed` is true when the guest has its entity's last certificate."""
        cluster, vm = self.cluster_of(vm_uuid), self.vm(vm_uuid)
        cluster.settle(vm_uuid)
        entity, installed = vm.entity, vm.installed
        return {
            "name": vm.name,
            "cluster": cluster.name,
            "powered_on": vm.powered_on,
            "ngt_uuid": None if entity is None else entity.ngt_uuid,
            "issued_not_after": None if entity is None else entity.certificate.not_after,
            "installed_ngt_uuid": None if installed is None else installed.ngt_uuid,
            "installed_not_after": None if installed is None else installed.not_after,
            "tools_mounted": entity is not None and entity.tools_mounted,
            "vss_snapshot": entity is not None and entity.vss_snapshot,
            "file_level_restore": entity is not None and entity.file_level_restore,
            "communication_link_active": cluster.communication_link_active(vm),
            "renewed": entity is not None and installed == entity.certificate and entity.certificate != vm.first,
        }

    def order(self, fault: ToolFault) -> None:
        """`fault` happens to the next calls that it fits."""
        self.faults.order(fault)

    async def switch_power(self, vm_uuid: str, *, on: bool) -> None:
        """A VM that is off refuses connections; a VM that comes up starts its agent."""
        guest = self.guests.get(vm_uuid)
        if guest is not None:
            await (guest.up() if on else guest.down())
        self.cluster_of(vm_uuid).switch_power(vm_uuid, on=on)

    async def restart_vm(self, vm_uuid: str) -> None:
        await self.switch_power(vm_uuid, on=False)
        await self.switch_power(vm_uuid, on=True)

    def write_known_hosts(self) -> None:
        self.known_hosts_path.write_text("".join(host.known_hosts_line for host in self._hosts()))

    def settings_toml(
        self, *, clusters: Mapping[str, Mapping[str, object]] | None = None, guests: bool = True, **for_all: object
    ) -> str:
        """The clusters' part of the service's configuration file.

        `for_all` holds keys for every cluster (`restart_agent="manual"`), `clusters` those of one cluster; a table such
        as `commands` is a mapping. Without `guests` the configuration has no access to guests.
        """
        own = clusters or {}
        return "\n".join(self._cluster_toml(name, {**for_all, **own.get(name, {})}, guests) for name in self.clusters)

    def _cluster_toml(self, name: str, changes: Mapping[str, object], guests: bool) -> str:  # noqa: FBT001 - Private.
        keys: dict[str, object] = {
            "cvms": [host.address for host in self.cvms[name]],
            "username": CVM_USER,
            "key_file": str(self.client_key_path),
            "known_hosts": str(self.known_hosts_path),
            "restart_agent": "ssh" if guests else "manual",
            **changes,
        }
        tables = {key: value for key, value in keys.items() if isinstance(value, Mapping)}
        lines = [f"[clusters.{name}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in keys.items() if key not in tables]
        for key, table in tables.items():
            lines += ["", f"[clusters.{name}.{key}]"]
            lines += [f"{inner} = {_toml(value)}" for inner, value in table.items()]
        if guests:
            windows = [
                f"{self.guests[vm.uuid].ip}/32"
                for vm in self.clusters[name].vms.values()
                if vm.os is Os.WINDOWS and vm.uuid in self.guests
            ]
            for os, networks in (("windows", windows), ("linux", ["127.0.0.0/8"])):
                if networks:
                    lines += ["", f"[[clusters.{name}.guests]]", f'match = {{ os = "{os}" }}']
                    lines += self._guest_lines(networks)
        return "\n".join([*lines, ""])

    def _guest_lines(self, networks: list[str]) -> list[str]:
        port = next(iter(self.guests.values())).port if self.guests else 22
        return [
            f"addresses = {_toml(networks)}",
            f"port = {port}",
            f'username = "{GUEST_USER}"',
            f"key_file = {_toml(str(self.client_key_path))}",
            f"known_hosts = {_toml(str(self.known_hosts_path))}",
        ]

    def _cut_exec(self, number: int) -> None:
        self._shells.cut(number)

    def _hosts(self) -> list[SimulatedHost]:
        return [*(host for cvms in self.cvms.values() for host in cvms), *self.guests.values()]

    def _add_cluster(self, spec: ClusterSpec, number: int) -> None:
        cluster = make_cluster(spec, number, clock=self._clock, journal=self.journal)
        self.clusters[spec.name] = cluster
        for index in range(spec.cvms):
            host = self._host(f"{spec.name}-cvm{index}", spec.name, f"127.0.{number}.{index + 1}")
            self.cvms.setdefault(spec.name, []).append(host)
        has_servers = self.spec.guests_reachable
        base = ipaddress.IPv4Address(f"{127 if has_servers else 10}.{number}.0.0")
        for index, vm_spec in enumerate(spec.vms, 1):
            ip = str(base + index)
            vm = cluster.add_vm(vm_spec, addresses=vm_spec.addresses or (ip,))
            if has_servers and not vm.controller_vm:
                self.guests[vm.uuid] = self._guest(vm, cluster, ip)

    def _host(self, name: str, cluster: str, ip: str) -> SimulatedHost:
        return SimulatedHost(
            name=name,
            cluster=cluster,
            ip=ip,
            username=CVM_USER,
            client_key=self._client_key,
            host_key=asyncssh.generate_private_key("ssh-ed25519"),
            journal=self.journal,
            open_session=self._shells.open_session,
            banner=_BANNER,
        )

    def _guest(self, vm: SimulatedVm, cluster: SimulatedCluster, ip: str) -> SimulatedHost:
        return SimulatedHost(
            name=vm.uuid,
            cluster=cluster.name,
            ip=ip,
            username=GUEST_USER,
            client_key=self._client_key,
            host_key=self._guest_host_key,
            journal=self.journal,
            open_session=Guest(vm, cluster, self.journal).open_session,
        )

    def _listening(self) -> dict[SimulatedHost, socket.socket]:
        """Chooses a port that is free on every address, and listens there for each machine that is switched on."""
        for _ in range(_ATTEMPTS):
            with closing(listening_socket("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
            for host in self._hosts():
                host.port = port
            sockets: dict[SimulatedHost, socket.socket] = {}
            try:
                for host in self._hosts():
                    if host.name not in self.guests or self.vm(host.name).powered_on:
                        sockets[host] = listening_socket(host.ip, port)
            except OSError as error:
                for listening in sockets.values():
                    listening.close()
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return sockets
        message = f"no port was free on all of {len(self._hosts())} addresses"
        raise OSError(errno.EADDRINUSE, message)


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # JSON and TOML write strings, numbers and booleans alike.
    return json.dumps(value, ensure_ascii=False)
