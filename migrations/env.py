"""Runs the migrations in one transaction, on the connection that `app.store.postgres.schema` hands in."""

from alembic import context
from sqlalchemy import Connection, text

from app.store.postgres import tables

# A statement that cannot get its lock gives up, instead of blocking every reader behind it.
LOCK_TIMEOUT = "10s"
# Of two replicas that migrate at once, the second waits and finds it done. Nothing else locks this number.
ADVISORY_LOCK = 7_026_458_113


def is_ours(name: str | None, kind: str, parents: object) -> bool:
    """The queue's own tables are not in the models."""
    del parents
    return not (kind == "table" and name is not None and name.startswith("procrastinate_"))


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=tables.JobRow.metadata,
        include_name=is_ours,
        compare_server_default=True,
    )
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
        connection.execute(text("SELECT set_config('lock_timeout', :limit, true)"), {"limit": LOCK_TIMEOUT})
        context.run_migrations()
        if after := context.config.attributes.get("after"):
            after(connection)


run(context.config.attributes["connection"])
