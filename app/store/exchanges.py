"""The job's log: each text that was sent, and what came back, both masked by the caller and bounded here."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.run_records import Sent
from app.store.tables import EXCHANGE

# More of an answer than this is of no use in a ticket.
_MOST_SHOWN_CHARACTERS = 64_000


async def store_exchange(connection: AsyncConnection, job_id: UUID, sent: Sent) -> int | None:
    """Adds the text to the log, or its answer where the text stands there by `exchange_id`; gives the row's id."""
    answer = {
        "answered_at": sent.answered_at,
        "exit_status": sent.exit_status,
        "stdout": _shown(sent.stdout),
        "stderr": _shown(sent.stderr),
        "fault": sent.fault,
    }
    if sent.exchange_id is not None:
        await connection.execute(EXCHANGE.update().where(EXCHANGE.c.id == sent.exchange_id).values(**answer))
        return sent.exchange_id
    row = EXCHANGE.insert().values(
        job_id=job_id, step=sent.step, place=sent.place, sent_at=sent.sent_at, sent=_shown(sent.text) or "", **answer
    )
    return (await connection.execute(row.returning(EXCHANGE.c.id))).scalar_one()  # type: ignore[no-any-return]  # an id


def _shown(shown: str | None) -> str | None:
    """PostgreSQL's text has no NUL, and nobody reads megabytes in a ticket."""
    if shown is None:
        return None
    clean = shown.replace("\x00", "�")
    if len(clean) <= _MOST_SHOWN_CHARACTERS:
        return clean
    return f"{clean[:_MOST_SHOWN_CHARACTERS]}\n[… {len(clean) - _MOST_SHOWN_CHARACTERS} characters left out]"
