"""A job's exchanges as plain text, for people and tickets."""

from collections.abc import Iterator, Sequence

from app.field_types import rfc3339
from app.store.records.jobs import Exchange, JobRecord

_RULE = "-" * 78


def write_log(job: JobRecord, exchanges: Sequence[Exchange]) -> str:
    """The sent texts and their answers, in order. The store has masked secrets already."""
    return "\n".join(_lines(job, exchanges)) + "\n"


def _lines(job: JobRecord, exchanges: Sequence[Exchange]) -> Iterator[str]:
    yield f"job {job.id}: renewal of VM {job.vm_uuid}, {job.status.value}: {job.message}"
    if not exchanges:
        yield "Nothing was sent yet."
    for exchange in exchanges:
        yield _RULE
        yield f"{rfc3339(exchange.sent_at)} {exchange.step} on {exchange.place}"
        yield from _indented("> ", exchange.sent)
        yield _ending(exchange)
        yield from _indented("< ", exchange.stdout)
        yield from _indented("! ", exchange.stderr)


def _ending(exchange: Exchange) -> str:
    if exchange.answered_at is None:
        return "no answer yet" if exchange.fault is None else f"no answer: {exchange.fault}"
    took_s = (exchange.answered_at - exchange.sent_at).total_seconds()
    said = exchange.fault or f"exit status {exchange.exit_status}"
    return f"{rfc3339(exchange.answered_at)} after {took_s:.3f} s: {said}"


def _indented(mark: str, text: str | None) -> Iterator[str]:
    return (mark + line for line in (text or "").splitlines())
