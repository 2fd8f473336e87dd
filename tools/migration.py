"""Writes a migration from what changed in the tables: compares them with a new database at the newest revision."""

import shutil
import sys
import tempfile
from pathlib import Path

from app.store.embedded.server import start_embedded
from app.store.postgres.schema import migrate, write_revision


def main() -> int:
    message = " ".join(sys.argv[1:]).strip()
    if not message:
        print('Say what changes: make migration m="Add a column"', file=sys.stderr)
        return 1
    # PostgreSQL does not run as root, so its folder must be where another user may go.
    folder = Path(tempfile.mkdtemp(prefix="ngt-migration-", dir="/tmp"))
    folder.chmod(0o755)
    database = start_embedded(folder / "data")
    try:
        migrate(database.url)
        write_revision(database.url, message)
    finally:
        database.close()
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
