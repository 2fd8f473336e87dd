"""What an operator wants to know before the first renewal: for each CVM, what works, what does not, and what to do.

Everything here only looks; nothing on a cluster is changed.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import VmToolsEntity
from app.settings import Settings
from app.ssh.cvm import Proved
from app.ssh.host import PoolLimits
from app.ssh.pool import Pool
from app.work.clusters.client import ClusterClient

# Which checks a fault of a connection says to have passed: they are tried in this order.
_REACHED_BUT = {
    FaultCode.SSH_HOST_KEY_MISMATCH: 1,
    FaultCode.SSH_AUTH_FAILED: 2,
    FaultCode.CVM_SHELL_DISABLED: 3,
    FaultCode.COMMAND_TIMEOUT: 3,
    FaultCode.OUTPUT_TOO_LARGE: 3,
    FaultCode.ANSWER_LOST: 3,
    FaultCode.CVM_TOOLS_MISSING: 4,
}
# The rules of these faults send an operator to the doctor, or cannot know which file and which table are meant.
_NEXT_STEPS = {
    FaultCode.CVM_UNREACHABLE: "Check that {cvm} is up, its address, and what is between; SSH must get through.",
    FaultCode.SSH_HOST_KEY_MISMATCH: "Compare `ngt-renewal hosts scan {cvm}` with what the cluster's administrator "
    "says; then `ngt-renewal hosts trust {cvm} SHA256:… --known-hosts {known_hosts}`.",
    FaultCode.CVM_TOOLS_MISSING: "Give full paths in [clusters.{cluster}.commands], or as `profile` the file that puts "
    "the tools on the PATH.",
}
_CHECKS = ("reachable", "host key", "login", "bash shell", "tools found")
# What is asked of the CLI for every renewal, by the name of the setting that replaces it.
_SUB_COMMANDS = {
    "delete": "delete_vm_tools_entity",
    "create": "create_vm_tools_entity",
    "mount": "mount_guest_tools",
}
_OFFERED = "sub-commands: "
_REFRESH = "refresh_vm_tools_entity"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: `good` None means a remark; `next_step` says what to do about a bad one."""

    where: str
    what: str
    good: bool | None
    next_step: str = ""


async def examine(settings: Settings) -> AsyncIterator[CheckResult]:
    """The findings on every cluster and CVM of the configuration, as they come."""
    limits = settings.limits
    pool = Pool(PoolLimits(connect_timeout_s=limits.connect_timeout_s, login_timeout_s=limits.login_timeout_s))
    try:
        for name, cluster in settings.clusters.items():
            if (fault := cluster.auto_renew.fault_of_windows()) is not None:
                step = "Open the windows more often, or raise `before_days`."
                yield CheckResult(name, fault, good=None, next_step=step)
            worked = ClusterClient(name, cluster, limits, pool, _unobserved)
            findings: list[CheckResult] = []
            for cvm in worked.ssh.hosts:
                async for finding in _examine_cvm(worked, cvm):
                    findings.append(finding)
                    yield finding
            if any(finding.what == _CHECKS[-1] and finding.good for finding in findings):
                yield await _listing(worked)
            if any(finding.what.startswith(_OFFERED) for finding in findings):
                async for finding in _query(worked):
                    yield finding
    finally:
        await pool.close()


def _unobserved(_cvm: str, _command: str, _result: str, _seconds: float) -> None:
    """The doctor prints its findings; metrics are the service's."""


async def _examine_cvm(cluster: ClusterClient, cvm: str) -> AsyncIterator[CheckResult]:
    where = f"{cluster.name} {cvm}"
    try:
        proved = await cluster.ssh.probe(cvm)
    except Fault as fault:
        passed = _REACHED_BUT.get(fault.code, 0)
        for check in _CHECKS[:passed]:
            yield CheckResult(where, check, good=True)
        names = {"cvm": cvm, "cluster": cluster.name, "known_hosts": cluster.settings.known_hosts}
        step = _NEXT_STEPS[fault.code].format(**names) if fault.code in _NEXT_STEPS else fault.rule.action
        yield CheckResult(where, f"{_CHECKS[passed]}: {fault.message}", good=False, next_step=step)
        return
    for check in _CHECKS:
        yield CheckResult(where, check, good=True)
    for finding in _sub_commands(where, cluster, proved):
        yield finding


def _sub_commands(where: str, cluster: ClusterClient, proved: Proved) -> Iterator[CheckResult]:
    offered = proved.facts.sub_commands
    given = cluster.settings.commands.overrides()
    table = f"[clusters.{cluster.name}.commands]"
    if missing := [name for key, name in _SUB_COMMANDS.items() if name not in offered and key not in given]:
        step = f"If this CLI has them all the same, all is well; else give the command lines in {table}."
        yield CheckResult(where, f"the CLI's usage text does not name {', '.join(missing)}", good=None, next_step=step)
    if cluster.settings.mode == "refresh" and _REFRESH not in offered and "refresh" not in given:
        step = f'Set `mode = "recreate"`, or give the command line as `refresh` in {table}.'
        yield CheckResult(where, f"the CLI's usage text does not name {_REFRESH}", good=False, next_step=step)
    if cluster.tools.with_query_of(offered).query is None:
        step = f"Give the command that lists VM tools entities as `query` in {table}."
        yield CheckResult(where, "no sub-command that lists VM tools entities was found", good=False, next_step=step)
    else:
        yield CheckResult(where, _OFFERED + (", ".join(sorted(offered)) or "none are named"), good=True)


async def _listing(cluster: ClusterClient) -> CheckResult:
    try:
        listing = await cluster.listing(max_age_s=0.0)
    except Fault as fault:
        return CheckResult(cluster.name, f"listing: {fault.message}", good=False, next_step=fault.rule.action)
    guests = sum(not record.controller_vm for record in listing.vms.values())
    return CheckResult(cluster.name, f"listing: {guests} guest VMs, by {listing.cvm}", good=True)


async def _query(cluster: ClusterClient) -> AsyncIterator[CheckResult]:
    try:
        query = await cluster.query()
    except Fault as fault:
        yield CheckResult(cluster.name, f"query: {fault.message}", good=False, next_step=fault.rule.action)
        return
    yield CheckResult(cluster.name, f"query: {len(query.entities)} VM tools entities, by {query.cvm}", good=True)
    yield _provable(cluster.name, cluster, tuple(query.entities.values()))


def _provable(where: str, cluster: ClusterClient, entities: tuple[VmToolsEntity, ...]) -> CheckResult:
    dated = sum(entity.client_cert_expiry_date is not None for entity in entities)
    if dated or cluster.settings.guests:
        ways = [f"client_cert_expiry_date is shown for {dated} of {len(entities)}"]
        ways += ["guests are read over SSH"] if cluster.settings.guests else []
        return CheckResult(where, f"renewals can be proved: {'; '.join(ways)}", good=True)
    if cluster.settings.accept_unverified:
        return CheckResult(where, "renewals cannot be proved here, and end as `unverified`", good=None)
    step = "Configure `guests` so that their certificates can be read, or `accept_unverified = true`."
    return CheckResult(where, "renewals could not be proved here", good=False, next_step=step)
