"""Remember the version of procrastinate that made the queue's tables, and drop a time that nothing shows."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "queue_version"
down_revision: str | Sequence[str] | None = "inventory"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Databases without this table got a copy of the schema of procrastinate 3.10.0.
    if not sa.inspect(op.get_bind()).has_table("queue_schema"):
        table = op.create_table("queue_schema", sa.Column("version", sa.Text(), primary_key=True))
        op.bulk_insert(table, [{"version": "3.10.0"}])
    op.drop_column("cluster", "watched_at")


def downgrade() -> None:
    # The table stays: the revision `queue` drops it with the queue.
    op.add_column("cluster", sa.Column("watched_at", sa.DateTime(timezone=True), nullable=True))
