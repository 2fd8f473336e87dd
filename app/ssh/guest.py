"""Reads a guest's certificate and restarts its agent. The private key beside the certificate is never read."""

from dataclasses import dataclass

from app.ngt.errors import Fault, FaultCode
from app.ngt.masking import mask
from app.ngt.tools.certificate import parse_certificate
from app.ngt.tools.guest_config import parse_guest_config
from app.ngt.vocabulary import Certificate
from app.ssh.host import CommandResult, Host
from app.ssh.pool import Pool

_MAX_BYTES = 256 * 1024
_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class GuestReading:
    """The facts of the guest's two files. `fault`: why its certificate is missing or cannot be read.

    `ngt_uuid`: the VM tools entity that the guest's configuration names.
    """

    certificate: Certificate | None
    ngt_uuid: str | None
    fault: Fault | None
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
    facts, fault = _certificate_of(host, certificate)
    return GuestReading(
        certificate=facts,
        ngt_uuid=parse_guest_config(config.stdout) if config.exit_status == 0 else None,
        fault=fault,
        address=host.name,
        host_key=certificate.host_key,
        certificate_answer=certificate,
        config_answer=config,
    )


def _certificate_of(host: Host, answer: CommandResult) -> tuple[Certificate | None, Fault | None]:
    if answer.exit_status != 0 or "BEGIN CERTIFICATE" not in answer.stdout:
        said = (answer.stderr.strip() or answer.stdout.strip() or f"status {answer.exit_status}")[:_SHOWN_CHARACTERS]
        message = f"guest {host.name}: no certificate: {mask(said)}"
        return None, Fault(FaultCode.GUEST_CERTIFICATE_MISSING, message)
    try:
        return parse_certificate(answer.stdout), None
    except Fault as unreadable:
        message = f"guest {host.name}: its certificate cannot be read: {unreadable.message}"
        return None, Fault(FaultCode.UNEXPECTED_OUTPUT, message)


async def restart_agent(pool: Pool, host: Host, *, restart_command: str, timeout_s: float) -> CommandResult:
    """Restarts the agent's service. Raises a Fault `agent-restart-failed` with the guest's message.

    A restart whose answer was lost may be repeated: it raises `guest-not-reached`.
    """
    answer = await _run(pool, host, restart_command, timeout_s)
    if answer.exit_status != 0:
        said = (answer.stderr.strip() or answer.stdout.strip() or "no message")[:_SHOWN_CHARACTERS]
        message = f"{restart_command!r} on {host.name} ended with status {answer.exit_status}: {said}"
        raise Fault(FaultCode.AGENT_RESTART_FAILED, message)
    return answer


# The pool's faults of a CVM are faults of the guest here; the other codes stay.
_GUEST_CODES = {
    FaultCode.CVM_UNREACHABLE: FaultCode.GUEST_NOT_REACHED,
    FaultCode.CVM_SHELL_DISABLED: FaultCode.GUEST_NOT_REACHED,
    FaultCode.ANSWER_LOST: FaultCode.GUEST_NOT_REACHED,
    FaultCode.COMMAND_TIMEOUT: FaultCode.GUEST_NOT_REACHED,
    FaultCode.OUTPUT_TOO_LARGE: FaultCode.GUEST_NOT_REACHED,
}


async def _run(pool: Pool, host: Host, text: str, timeout_s: float) -> CommandResult:
    # File names on Windows ignore case.
    if "client-key" in text.lower():
        message = "a guest command must never name client-key.pem"
        raise ValueError(message)
    try:
        answer = await pool.run(host, text, timeout_s=timeout_s, max_output_bytes=_MAX_BYTES)
    except Fault as fault:
        raise Fault(_GUEST_CODES.get(fault.code, fault.code), f"guest {host.name}: {fault.message}") from fault
    if "PRIVATE KEY" in answer.stdout or "PRIVATE KEY" in answer.stderr:
        message = f"guest {host.name}: the command printed a private key, so its output was discarded: {text!r}"
        raise Fault(FaultCode.UNEXPECTED_OUTPUT, message)
    return answer
