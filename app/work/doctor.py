"""The doctor checks before the first renewal what works on each CVM, and says how to fix the rest.

It changes nothing on a cluster.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from app.ngt.errors import Fault, FaultCode
from app.ngt.vocabulary import VmToolsEntity
from app.settings import Settings
from app.ssh.cvm import unobserved
from app.ssh.host import PoolLimits
from app.ssh.pool import Pool
from app.work.clusters.client import ClusterClient

# The actions of these faults name the doctor, or cannot name the file and the table.
_NEXT_STEPS = {
    FaultCode.CVM_UNREACHABLE: "Check that {cvm} is up, its address, and what is between; SSH must get through.",
    FaultCode.SSH_HOST_KEY_MISMATCH: "Compare `ngt-renewal hosts scan {cvm}` with what the cluster's administrator "
    "says; then `ngt-renewal hosts trust {cvm} SHA256:… --known-hosts {known_hosts}`.",
    FaultCode.CVM_TOOLS_MISSING: "Give full paths in [clusters.{cluster}.commands], or as `profile` the file that puts "
    "the tools on the PATH.",
}
_CHECKS = ("reachable", "host key", "login", "bash shell", "tools found")
# The check that fails with the fault; the checks before it have passed, and any other fault fails the first one.
_FAILED_CHECK = {
    FaultCode.SSH_HOST_KEY_MISMATCH: "host key",
    FaultCode.SSH_AUTH_FAILED: "login",
    FaultCode.CVM_SHELL_DISABLED: "bash shell",
    FaultCode.COMMAND_TIMEOUT: "bash shell",
    FaultCode.OUTPUT_TOO_LARGE: "bash shell",
    FaultCode.ANSWER_LOST: "bash shell",
    FaultCode.CVM_TOOLS_MISSING: "tools found",
}
# The sub-commands that every renewal needs, by the setting that replaces each one.
_SUB_COMMANDS = {
    "delete": "delete_vm_tools_entity",
    "create": "create_vm_tools_entity",
    "mount": "mount_guest_tools",
}
_OFFERED = "sub-commands: "
_REFRESH = "refresh_vm_tools_entity"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: `good` None means a remark; `next_step` says how to fix a bad one."""

    where: str
    what: str
    good: bool | None
    next_step: str = ""


async def examine(settings: Settings) -> AsyncIterator[CheckResult]:
    """Checks every cluster and CVM of the configuration, and yields each result when it is known."""
    limits = settings.limits
    pool = Pool(PoolLimits(connect_timeout_s=limits.connect_timeout_s, login_timeout_s=limits.login_timeout_s))
    try:
        for name, cluster in settings.clusters.items():
            if (fault := cluster.auto_renew.fault_of_windows()) is not None:
                step = "Open the windows more often, or raise `before_days`."
                yield CheckResult(name, fault, good=None, next_step=step)
            client = ClusterClient(name, cluster, limits, pool, unobserved)
            results: list[CheckResult] = []
            for cvm in client.ssh.hosts:
                for result in await _check_cvm(client, cvm):
                    results.append(result)
                    yield result
            if any(result.what == _CHECKS[-1] and result.good for result in results):
                yield await _check_listing(client)
            if any(result.what.startswith(_OFFERED) for result in results):
                for result in await _check_query(client):
                    yield result
    finally:
        await pool.close()


async def _check_cvm(cluster: ClusterClient, cvm: str) -> list[CheckResult]:
    where = f"{cluster.name} {cvm}"
    try:
        proved = await cluster.ssh.probe(cvm)
    except Fault as fault:
        failed = _FAILED_CHECK.get(fault.code, _CHECKS[0])
        names = {"cvm": cvm, "cluster": cluster.name, "known_hosts": cluster.settings.known_hosts}
        step = _NEXT_STEPS[fault.code].format(**names) if fault.code in _NEXT_STEPS else fault.rule.action
        return [*_passed(where, before=failed), CheckResult(where, f"{failed}: {fault.message}", False, step)]
    return [*_passed(where), *_check_sub_commands(where, cluster, proved.facts.sub_commands)]


def _passed(where: str, *, before: str | None = None) -> list[CheckResult]:
    checks = _CHECKS if before is None else _CHECKS[: _CHECKS.index(before)]
    return [CheckResult(where, check, good=True) for check in checks]


def _check_sub_commands(where: str, cluster: ClusterClient, offered: frozenset[str]) -> Iterator[CheckResult]:
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


async def _check_listing(cluster: ClusterClient) -> CheckResult:
    try:
        listing = await cluster.listing(max_age_s=0.0)
    except Fault as fault:
        return CheckResult(cluster.name, f"listing: {fault.message}", good=False, next_step=fault.rule.action)
    guests = sum(not record.controller_vm for record in listing.vms.values())
    return CheckResult(cluster.name, f"listing: {guests} guest VMs, by {listing.cvm}", good=True)


async def _check_query(cluster: ClusterClient) -> list[CheckResult]:
    try:
        query = await cluster.query()
    except Fault as fault:
        return [CheckResult(cluster.name, f"query: {fault.message}", good=False, next_step=fault.rule.action)]
    found = CheckResult(cluster.name, f"query: {len(query.entities)} VM tools entities, by {query.cvm}", good=True)
    return [found, _check_proof(cluster, tuple(query.entities.values()))]


def _check_proof(cluster: ClusterClient, entities: tuple[VmToolsEntity, ...]) -> CheckResult:
    where = cluster.name
    dated = sum(entity.client_cert_expiry_date is not None for entity in entities)
    if dated or cluster.settings.guests:
        ways = [f"client_cert_expiry_date is shown for {dated} of {len(entities)}"]
        ways += ["guests are read over SSH"] if cluster.settings.guests else []
        return CheckResult(where, f"renewals can be proved: {'; '.join(ways)}", good=True)
    if cluster.settings.accept_unverified:
        return CheckResult(where, "renewals cannot be proved here, and end as `unverified`", good=None)
    step = "Configure `guests` so that their certificates can be read, or `accept_unverified = true`."
    return CheckResult(where, "renewals could not be proved here", good=False, next_step=step)
