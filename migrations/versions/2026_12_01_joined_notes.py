"""Keep the notes of requests that join an open job."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "joined_notes"
down_revision: str | Sequence[str] | None = "queue_version"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "joined_note",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name", "value"),
    )
    op.create_index("joined_note_by_value", "joined_note", ["name", "value"])


def downgrade() -> None:
    op.drop_table("joined_note")
