"""The URL of the database. libpq alone reads it, for every part of the service."""

import re

import psycopg
from psycopg.conninfo import conninfo_to_dict

_HOST = re.compile(r"/.*|[\w.:%-]*")
_PORT = re.compile(r"\d*")
_UNKNOWN_PARAMETER = re.compile(r'invalid URI query parameter: "(\w+)"')
_REMEDY = (
    "DATABASE_URL {}; it looks like postgresql://user:password@host:5432/name. Write the special characters of the "
    "password percent-encoded, such as %2F for / and %40 for @, or leave the password out and set PGPASSWORD."
)


def plain_url(url: str) -> str:
    """The URL as libpq reads it: without SQLAlchemy's driver, and with what people write into `?options=` encoded."""
    url = url.replace("postgresql+psycopg://", "postgresql://", 1)
    before, mark, query = url.rpartition("?")
    if not mark or "@" in query:
        return url
    parameters = [parameter.partition("=") for parameter in query.split("&")]
    encoded = (f"{name}{sign}{value.replace('=', '%3D').replace(' ', '%20')}" for name, sign, value in parameters)
    return f"{before}?{'&'.join(encoded)}"


def find_fault(url: str) -> str | None:
    """The reason why the URL cannot be meant as it stands, in a sentence that shows nothing of the password.

    A bare `/` or `@` of a password would otherwise make a part of it the host, the port or the name, which logs show.
    """
    try:
        read = conninfo_to_dict(plain_url(url))
    except psycopg.Error as refused:
        # The message of libpq quotes the URL, and a parameter may be the rest of a password.
        unknown = None if "@" in url.rpartition("?")[2] else _UNKNOWN_PARAMETER.search(str(refused))
        return _REMEDY.format("is malformed" if unknown is None else f"has the unknown parameter `{unknown[1]}`")
    are_hosts = all(_HOST.fullmatch(host) for host in str(read.get("host", "")).split(","))
    are_ports = all(_PORT.fullmatch(port) for port in str(read.get("port", "")).split(","))
    is_name = "@" not in str(read.get("dbname", "")) or "%40" in url
    return None if are_hosts and are_ports and is_name else _REMEDY.format("is malformed")


def name_of(url: str) -> str:
    """The name of the database, without a secret: `ngt on db1 port 5432`."""
    read = conninfo_to_dict(plain_url(url))
    where = f"{read.get('host') or 'the default host'}" + (f" port {read['port']}" if read.get("port") else "")
    return f"{read.get('dbname') or 'the default database'} on {where}"
