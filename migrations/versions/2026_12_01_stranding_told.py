"""Remember with each job whether the event of its stranding was written."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "stranding_told"
down_revision: str | Sequence[str] | None = "clock_steps"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("job", sa.Column("stranding_told", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    # Until now the event was written when the stranding began.
    op.execute("UPDATE job SET stranding_told = true WHERE stranded_since IS NOT NULL")


def downgrade() -> None:
    op.drop_column("job", "stranding_told")
