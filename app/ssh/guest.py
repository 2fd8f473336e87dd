"""The guest's side: read its certificate, restart its agent. The private key beside it is never read."""

from dataclasses import dataclass

from app.ngt.errors import Fault, FaultCode
from app.ssh.host import CommandResult, Host
from app.ssh.pool import Pool

_MAX_BYTES = 256 * 1024
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class GuestReading:
    """The guest's two files; `certificate_pem` None: the guest was reached and the command found no certificate."""

    certificate_pem: str | None
    config_text: str | None
    address: str
    host_key: str
    certificate_answer: CommandResult
    config_answer: CommandResult


async def read_guest(
    pool: Pool, host: Host, *, read_certificate: str, read_config: str, timeout_s: float
) -> GuestReading:
    """Reads `client-cert.pem` and `ngt_config.json` by the configured commands.

    Raises a Fault when the guest cannot be reached or does not answer, and ValueError for a command that names the key.
    """
    certificate = await _run(pool, host, read_certificate, timeout_s)
    config = await _run(pool, host, read_config, timeout_s)
    found = certificate.exit_status == 0 and "BEGIN CERTIFICATE" in certificate.stdout
    return GuestReading(
        certificate_pem=certificate.stdout if found else None,
        config_text=config.stdout if config.exit_status == 0 else None,
        address=host.name,
        host_key=certificate.host_key,
        certificate_answer=certificate,
        config_answer=config,
    )


async def restart_agent(pool: Pool, host: Host, *, restart_command: str, timeout_s: float) -> CommandResult:
    """Restarts the agent's service. Raises a Fault `agent-restart-failed` with what the guest said.

    A restart whose answer was lost may be repeated: it raises `guest-not-reached`.
    """
    answer = await _run(pool, host, restart_command, timeout_s)
    if answer.exit_status != 0:
        said = (answer.stderr.strip() or answer.stdout.strip() or "no message")[:_SHOWN_CHARACTERS]
        message = f"{restart_command!r} on {host.name} ended with status {answer.exit_status}: {said}"
        raise Fault(FaultCode.AGENT_RESTART_FAILED, message)
    return answer


# What is a fault of a CVM in the pool's words is one of the guest here; the rest keeps its own name.
_OF_GUEST = {
    FaultCode.CVM_UNREACHABLE: FaultCode.GUEST_NOT_REACHED,
    FaultCode.CVM_SHELL_DISABLED: FaultCode.GUEST_NOT_REACHED,
    FaultCode.ANSWER_LOST: FaultCode.GUEST_NOT_REACHED,
    FaultCode.COMMAND_TIMEOUT: FaultCode.GUEST_NOT_REACHED,
    FaultCode.OUTPUT_TOO_LARGE: FaultCode.GUEST_NOT_REACHED,
}


async def _run(pool: Pool, host: Host, text: str, timeout_s: float) -> CommandResult:
    # Windows does not tell upper from lower case in a file's name.
    if "client-key" in text.lower():
        message = "a guest command must never name client-key.pem"
        raise ValueError(message)
    try:
        answer = await pool.run(host, text, timeout_s=timeout_s, max_output_bytes=_MAX_BYTES)
    except Fault as fault:
        raise Fault(_OF_GUEST.get(fault.code, fault.code), f"guest {host.name}: {fault.message}") from fault
    if "PRIVATE KEY" in answer.stdout or "PRIVATE KEY" in answer.stderr:
        message = f"guest {host.name}: the command printed a private key, so its output was thrown away: {text!r}"
        raise Fault(FaultCode.UNEXPECTED_OUTPUT, message)
    return answer
