"""Create the tables of the queue, as the installed procrastinate defines them, and remember its version."""

from collections.abc import Sequence
from importlib.metadata import version

import sqlalchemy as sa
from alembic import op
from procrastinate.schema import SchemaManager

revision: str = "queue"
down_revision: str | Sequence[str] | None = "tables"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

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
    table = op.create_table("queue_schema", sa.Column("version", sa.Text(), primary_key=True))
    op.bulk_insert(table, [{"version": version("procrastinate")}])
    _run(SchemaManager.get_schema())


def downgrade() -> None:
    _run(_DROP_ALL)
    op.execute("DROP TABLE IF EXISTS queue_schema")


def _run(statements: str) -> None:
    """Only the driver's own connection takes many statements at once; they join the migration's transaction."""
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(statements)
