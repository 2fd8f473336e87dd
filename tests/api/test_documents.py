import json
import re

import pytest

from app.settings import Settings
from tests.api.conftest import Service, serving
from tests.contract.documents import COMPLETE, PLAIN, read


async def test_the_served_document_and_its_pages_need_no_key_and_no_network(service: Service) -> None:
    async with service.client() as client:
        assert (await client.get("/openapi.json")).json() == read(COMPLETE)
        page = await client.get("/docs")
        assert page.status_code == 200
        assert '"validatorUrl": null' in page.text
        assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert assets
        for asset in assets:
            assert asset.startswith("/static-offline-docs/")
            assert (await client.get(asset)).status_code == 200


async def test_the_plain_document_names_the_address_that_it_was_asked_for(service: Service) -> None:
    async with service.client() as client:
        answer = await client.get("/openapi-3.0.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {**read(PLAIN), "servers": [{"url": "http://ngt-renewal.test"}]}


@pytest.mark.parametrize("public_url", ["https://ngt.example.org", "https://gateway.example.org:8443/ngt/"])
async def test_the_plain_document_names_the_public_url_where_there_is_one(
    settings: Settings, database_url: str, public_url: str
) -> None:
    named = settings.model_copy(update={"public_url": public_url})
    async with serving(named, database_url) as service, service.client() as client:
        document = (await client.get("/openapi-3.0.json")).json()
    assert document == {**read(PLAIN), "servers": [{"url": public_url.rstrip("/")}]}


def test_the_committed_documents_are_written_as_the_command_writes_them() -> None:
    for path in (COMPLETE, PLAIN):
        assert path.read_text("utf-8") == json.dumps(read(path), indent=2, ensure_ascii=False) + "\n"
