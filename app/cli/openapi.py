"""`ngt-renewal openapi`."""

import json
from typing import Annotated

import typer

from app.cli.failures import fail


def openapi(
    *,
    plain: Annotated[bool, typer.Option("--plain", help="OpenAPI 3.0.3 for ServiceNow and other importers.")] = False,
    url: Annotated[str | None, typer.Option(help="With --plain: the address that callers use.")] = None,
) -> None:
    """Print the OpenAPI 3.1 document, or the plain 3.0.3 one."""
    from app.main import openapi_document, plain_openapi_document

    if url is not None and not url.startswith(("https://", "http://")):
        fail(f"{url!r} is not the address of a service; one looks like https://ngt-renewal.example.org.")
    document = (plain_openapi_document(url) if url else plain_openapi_document()) if plain else openapi_document()
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
