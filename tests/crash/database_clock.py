"""A clock of the database that a test sets: the service's SQL finds these functions before PostgreSQL's own."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

_FUNCTIONS = """
CREATE SCHEMA set_clock;
CREATE TABLE set_clock.ahead (seconds float8 NOT NULL);
INSERT INTO set_clock.ahead VALUES (0);
CREATE FUNCTION set_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
  AS 'SELECT pg_catalog.clock_timestamp() + make_interval(secs => (SELECT seconds FROM set_clock.ahead))';
CREATE FUNCTION set_clock.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
  AS 'SELECT pg_catalog.statement_timestamp() + make_interval(secs => (SELECT seconds FROM set_clock.ahead))';
CREATE FUNCTION set_clock.now() RETURNS timestamptz LANGUAGE sql STABLE
  AS 'SELECT pg_catalog.now() + make_interval(secs => (SELECT seconds FROM set_clock.ahead))';
"""


class DatabaseClock:
    """The clock of one database."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.connect()
        self._connection.execute(_FUNCTIONS)
        name = Identifier(self._connection.info.dbname)
        self._connection.execute(SQL("ALTER DATABASE {} SET search_path = set_clock, pg_catalog, public").format(name))

    def connect(self) -> None:
        """Connects, again after the database was away."""
        self._connection = psycopg.connect(self._url, autocommit=True)

    def step(self, seconds: float) -> None:
        """Sets the clock forward, or backward by a negative number of seconds."""
        self._connection.execute("UPDATE set_clock.ahead SET seconds = seconds + %s", [seconds])

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def clock(database_url: str) -> Iterator[DatabaseClock]:
    """The clock of the test's database; it must be asked for before the service."""
    made = DatabaseClock(database_url)
    yield made
    made.close()
