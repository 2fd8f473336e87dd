"""What an operator wants to know before the first renewal: for each CVM, what works, what does not, and what to do.

Everything here only looks; nothing on a cluster is changed.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import VmToolsEntity
from app.settings import Settings
from app.ssh.cvm import Proved
from app.ssh.host import PoolLimits
from app.ssh.pool import Pool
from app.work.cluster import WorkedCluster

# Which checks a fault of a connection says to have passed: they are tried in this order.
_REACHED_BUT = {
    FaultCode.SSH_HOST_KEY_MISMATCH: 1,
    FaultCode.SSH_AUTH_FAILED: 2,
    FaultCode.CVM_SHELL_DISABLED: 3,
    FaultCode.CVM_TOOLS_MISSING: 4,
}
_CHECKS = ("reachable", "host key", "login", "bash shell", "tools found")
_SUB_COMMANDS = (
    "delete_vm_tools_entity",
    "create_vm_tools_entity",
    "mount_guest_tools",
    "refresh_vm_tools_entity",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `good` None means a remark; `next_step` says what to do about a bad one."""

    where: str
    what: str
    good: bool | None
    next_step: str = ""


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """The findings on every cluster and CVM of the configuration, as they come."""
    limits = settings.limits
    pool = Pool(PoolLimits(connect_timeout_s=limits.connect_timeout_s, login_timeout_s=limits.login_timeout_s))
    try:
        for name, cluster in settings.clusters.items():
            worked = WorkedCluster(name, cluster, limits, pool, _unobserved)
            good = 0
            for cvm in worked.ssh.hosts:
                async for finding in _examine_cvm(worked, cvm):
                    good += finding.what == _CHECKS[-1] and finding.good is True
                    yield finding
            if good:
                async for finding in _examine_cluster(worked):
                    yield finding
    finally:
        await pool.close()


def _unobserved(_cvm: str, _command: str, _result: str, _seconds: float) -> None:
    """The doctor prints its findings; metrics are the service's."""


async def _examine_cvm(cluster: WorkedCluster, cvm: str) -> AsyncIterator[Finding]:
    where = f"{cluster.name} {cvm}"
    try:
        proved = await cluster.ssh.probe(cvm)
    except Fault as fault:
        passed = _REACHED_BUT.get(fault.code, 0)
        for check in _CHECKS[:passed]:
            yield Finding(where, check, good=True)
        yield Finding(where, f"{_CHECKS[passed]}: {fault.message}", good=False, next_step=fault.rule.action)
        return
    for check in _CHECKS:
        yield Finding(where, check, good=True)
    yield _sub_commands(where, cluster, proved)


def _sub_commands(where: str, cluster: WorkedCluster, proved: Proved) -> Finding:
    offered = proved.facts.sub_commands
    missing = [name for name in _SUB_COMMANDS[:3] if name not in offered]
    tools = cluster.tools.with_query_of(offered)
    if missing:
        said = f"the CLI's usage text does not name {', '.join(missing)}"
        return Finding(where, said, good=None, next_step="If they exist, all is well; else give the command lines.")
    if tools.query is None:
        step = f"Give the command that lists VM tools entities as `query` in [clusters.{cluster.name}.commands]."
        return Finding(where, "no sub-command that lists VM tools entities was found", good=False, next_step=step)
    names = ", ".join(sorted(offered))
    return Finding(where, f"sub-commands: {names}", good=True)


async def _examine_cluster(cluster: WorkedCluster) -> AsyncIterator[Finding]:
    where = cluster.name
    try:
        listing = await cluster.listing(max_age_s=0.0)
        guests = sum(not record.controller_vm for record in listing.vms.values())
        yield Finding(where, f"listing: {guests} guest VMs, by {listing.cvm}", good=True)
        query = await cluster.query()
    except Fault as fault:
        yield Finding(where, fault.message, good=False, next_step=fault.rule.action)
        return
    yield Finding(where, f"query: {len(query.entities)} VM tools entities", good=True)
    yield _provable(where, cluster, tuple(query.entities.values()))


def _provable(where: str, cluster: WorkedCluster, entities: tuple[VmToolsEntity, ...]) -> Finding:
    dated = sum(entity.client_cert_expiry_date is not None for entity in entities)
    if dated or cluster.settings.guests:
        ways = [f"client_cert_expiry_date is shown for {dated} of {len(entities)}"]
        ways += ["guests are read over SSH"] if cluster.settings.guests else []
        return Finding(where, f"renewals can be proved: {'; '.join(ways)}", good=True)
    step = "Configure `guests` so that their certificates can be read, or `accept_unverified = true`."
    return Finding(where, "renewals could not be proved here", good=False, next_step=step)
