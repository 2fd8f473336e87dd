"""Create the tables of the queue, as procrastinate 3.10.0 wants them."""

from collections.abc import Sequence
from pathlib import Path

from alembic import op

revision: str = "queue"
down_revision: str | Sequence[str] | None = "tables"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# A copy of the library's own, so that this revision stays what it is when the library goes on.
_SCHEMA = Path(__file__).parents[1] / "procrastinate_3.10.0.sql"

_DROP_ALL = r"""
DO $$
DECLARE
    dropping text;
BEGIN
    FOR dropping IN
        SELECT format('DROP TABLE IF EXISTS %s CASCADE', oid::regclass)
          FROM pg_class
         WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND relname LIKE 'procrastinate\_%'
    LOOP EXECUTE dropping; END LOOP;
    FOR dropping IN
        SELECT format('DROP FUNCTION IF EXISTS %s CASCADE', oid::regprocedure)
          FROM pg_proc
         WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'procrastinate\_%'
    LOOP EXECUTE dropping; END LOOP;
    FOR dropping IN
        SELECT format('DROP TYPE IF EXISTS %s CASCADE', oid::regtype)
          FROM pg_type
         WHERE typtype IN ('e', 'c') AND typnamespace = current_schema()::regnamespace
           AND typname LIKE 'procrastinate\_%'
    LOOP EXECUTE dropping; END LOOP;
END;
$$
"""


def upgrade() -> None:
    _run(_SCHEMA.read_text(encoding="utf-8"))


def downgrade() -> None:
    _run(_DROP_ALL)


def _run(statements: str) -> None:
    """Many statements at once, which only the driver's own connection takes; in the transaction of the migration."""
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(statements)
