"""The job's log: each text that was sent, and what came back, both masked by the caller and bounded here."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.postgres.tables import EXCHANGE
from app.store.records.claims import NewExchange

# More of an answer than this is of no use in a ticket.
_MOST_SHOWN_CHARACTERS = 64_000


_ADD = EXCHANGE.insert()
_ADD_AND_TELL = EXCHANGE.insert().returning(EXCHANGE.c.id)
_ANSWER = EXCHANGE.update().where(EXCHANGE.c.id == bindparam("exchange_id"))


async def store_text(connection: AsyncConnection, job_id: UUID, sent: NewExchange) -> int:
    """Adds a text that is about to be sent to the log; gives the id of its row."""
    added = await connection.execute(_ADD_AND_TELL, _row(job_id, sent))
    return added.scalar_one()  # type: ignore[no-any-return]  # an id


async def store_answers(connection: AsyncConnection, job_id: UUID, exchanges: Sequence[NewExchange]) -> None:
    """Adds texts and their answers to the log, or the answer alone where the text stands there by `exchange_id`."""
    new = [_row(job_id, sent) for sent in exchanges if sent.exchange_id is None]
    if new:
        await connection.execute(_ADD, new)
    for sent in exchanges:
        if sent.exchange_id is not None:
            await connection.execute(_ANSWER, {"exchange_id": sent.exchange_id, **_answer(sent)})


def _row(job_id: UUID, sent: NewExchange) -> dict[str, Any]:
    text = _shown(sent.text) or ""
    said = {"job_id": job_id, "step": sent.step, "place": sent.place, "sent_at": sent.sent_at, "sent": text}
    return {**said, **_answer(sent)}


def _answer(sent: NewExchange) -> dict[str, Any]:
    return {
        "answered_at": sent.answered_at,
        "exit_status": sent.exit_status,
        "stdout": _shown(sent.stdout),
        "stderr": _shown(sent.stderr),
        "fault": sent.fault,
    }


def _shown(shown: str | None) -> str | None:
    """PostgreSQL's text has no NUL, and nobody reads megabytes in a ticket."""
    if shown is None:
        return None
    clean = shown.replace("\x00", "�")
    if len(clean) <= _MOST_SHOWN_CHARACTERS:
        return clean
    return f"{clean[:_MOST_SHOWN_CHARACTERS]}\n[… {len(clean) - _MOST_SHOWN_CHARACTERS} characters left out]"
