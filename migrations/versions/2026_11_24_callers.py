"""Add what tells callers: the events of jobs, the outbox of webhooks, and the pause of the whole service."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "callers"
down_revision: str | Sequence[str] | None = "queue"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_SHOWN = "status, done, outcome, wait_reason, error_code, current_step, progress_percent, attempt, message"


def _qualified(row: str) -> str:
    return ", ".join(f"{row}.{column}" for column in _SHOWN.split(", "))


# An event is a version of the job that looks different from the one before it.
_FUNCTION = f"""
CREATE FUNCTION record_job_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR ({_qualified("OLD")}) IS DISTINCT FROM ({_qualified("NEW")}) THEN
        INSERT INTO job_event (job_id, version, at, {_SHOWN})
        VALUES (NEW.id, NEW.version, clock_timestamp(), {_qualified("NEW")})
        ON CONFLICT (job_id, version) DO UPDATE SET ({_SHOWN}) = ROW ({_qualified("excluded")});
    END IF;
    RETURN NULL;
END
$$
"""  # noqa: S608 - constants of this revision
_TRIGGER = """
CREATE TRIGGER job_event_recorded AFTER INSERT OR UPDATE ON job FOR EACH ROW EXECUTE FUNCTION record_job_event()
"""
_EARLIER_JOBS = f"""
INSERT INTO job_event (job_id, version, at, {_SHOWN}) SELECT id, version, updated_at, {_SHOWN} FROM job
"""  # noqa: S608 - as above


def upgrade() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("cluster", sa.Text(), nullable=True),
        sa.Column("record", sa.Text(), nullable=True),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_http_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("delivery_by_job", "delivery", ["job_id"], unique=False)
    op.create_index("delivery_by_target", "delivery", ["target", "created_at", "id"], unique=False)
    op.create_index("delivery_due", "delivery", ["target", "due_at"], postgresql_where=sa.text("due_at IS NOT NULL"))
    op.create_table(
        "webhook_target",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_because", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "pause",
        sa.Column("single", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("paused_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("single", name="pause_single"),
        sa.PrimaryKeyConstraint("single"),
    )
    op.create_table(
        "job_event",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("wait_reason", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("current_step", sa.Text(), nullable=True),
        sa.Column("progress_percent", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "version"),
    )
    op.add_column("job", sa.Column("callback", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.execute(_FUNCTION)
    op.execute(_TRIGGER)
    op.execute(_EARLIER_JOBS)


def downgrade() -> None:
    op.execute("DROP TRIGGER job_event_recorded ON job")
    op.execute("DROP FUNCTION record_job_event")
    op.drop_column("job", "callback")
    for table in ("job_event", "pause", "webhook_target", "delivery"):
        op.drop_table(table)
