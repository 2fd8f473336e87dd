"""The body is a JSON object of bounded size, or there is none."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.api.bad_input.service import JSON, MEGABYTE, Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

_BROKEN = {
    "cut off": b"{",
    "cut off within a word": b'{"force": tru',
    "comma before the end": b'{"force": true,}',
    "single quotes": b"{'force': true}",
    "two values": b'{"force": true} {}',
    "a form": b"force=true",
    "a zero byte": b"\x00",
    "not UTF-8": b'{"correlation_id": "\xff"}',
    "a raw line break": b'{"correlation_id": "a\nb"}',
    "not a number": b'{"skip_if_valid_days": NaN}',
    "infinity": b'{"skip_if_valid_days": -Infinity}',
    "a number of 5000 digits": b'{"skip_if_valid_days": ' + b"9" * 5000 + b"}",
    "one name twice": b'{"force": false, "force": true}',
    "deep arrays": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
}


@pytest.mark.parametrize("body", _BROKEN.values(), ids=_BROKEN)
async def test_broken_json_is_refused(service: Service, body: bytes) -> None:
    await service.refuses(400, "malformed-json", content=body, headers=service.key() | JSON)


@pytest.mark.parametrize("body", ["[]", '"recreate"', "1", "true", "[{}]"])
async def test_a_body_that_is_no_object_is_refused(service: Service, body: str) -> None:
    await service.refuses(422, "validation-failed", content=body, headers=service.key() | JSON)


async def test_a_body_of_two_megabytes_is_refused(service: Service) -> None:
    body = json.dumps({"correlation_id": "a" * 2 * MEGABYTE})
    await service.refuses(413, "body-too-large", content=body, headers=service.key() | JSON)


async def test_a_body_without_a_length_is_read_only_up_to_the_limit(service: Service) -> None:
    given = 0
    chunk = b" " * (MEGABYTE // 16)

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(32):
            given += len(chunk)
            yield chunk

    await service.refuses(413, "body-too-large", content=chunks(), headers=service.key() | JSON)
    assert given <= MEGABYTE + len(chunk)


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "json", ""]
)
async def test_a_body_of_another_media_type_is_refused(service: Service, media_type: str) -> None:
    headers = service.key() | {"Content-Type": media_type}
    await service.refuses(415, "unsupported-media-type", content=b"{}", headers=headers)


async def test_a_body_without_a_media_type_is_refused(service: Service) -> None:
    await service.refuses(415, "unsupported-media-type", content=b"{}")


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON", "application/a+json"])
async def test_json_may_be_named_in_several_ways(service: Service, media_type: str) -> None:
    await service.accepts(content=b"{}", headers={"Content-Type": media_type})


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "text/plain", "application/json"])
async def test_an_empty_body_may_have_any_media_type(service: Service, media_type: str) -> None:
    await service.accepts(headers={"Content-Type": media_type})


async def test_no_body_at_all_is_enough(service: Service) -> None:
    await service.accepts()
