"""Store the steps of the database's clock, and with each job the last one before its progress was stored."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "clock_steps"
down_revision: str | Sequence[str] | None = "joined_notes"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "clock_step",
        sa.Column("number", sa.Integer(), autoincrement=False, primary_key=True),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.create_table(
        "service_beat",
        sa.Column("single", sa.Boolean(), primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.add_column("job", sa.Column("clock_step", sa.Integer(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    op.drop_column("job", "clock_step")
    op.drop_table("service_beat")
    op.drop_table("clock_step")
