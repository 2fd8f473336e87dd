"""A list of VMs as CSV (RFC 4180), written while it is read: neither the rows nor the text are ever all in memory.

The columns are the members of a VM in JSON, and their values are the same; what is not known is empty.
"""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Send

from app.api.inventory.responses import vm_response
from app.api.inventory.schemas import Vm
from app.store.records.inventory import KnownVm

CSV = "text/csv"

_COLUMNS = tuple(Vm.model_fields)
# A slower client would hold a connection of the database; the largest site is read in seconds.
_LONGEST_S = 300.0
# A text that begins with one of these is a formula to a spreadsheet, and names are given by those who make VMs.
_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class CsvOfVms(StreamingResponse):
    """All parts as one file. One that is cut off, by a fault or after `longest_s`, does not end as a whole one does."""

    def __init__(
        self,
        first: tuple[KnownVm, ...],
        others: AsyncGenerator[tuple[KnownVm, ...]],
        *,
        longest_s: float = _LONGEST_S,
    ) -> None:
        headers = {"Content-Disposition": 'attachment; filename="vms.csv"'}
        super().__init__(_file(first, others), headers=headers, media_type=f"{CSV}; charset=utf-8; header=present")
        self._others = others
        self._longest_s = longest_s

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._others):
            try:
                async with asyncio.timeout(self._longest_s):
                    await super().stream_response(send)
            except TimeoutError:
                raise ClientDisconnect from None


async def _file(first: tuple[KnownVm, ...], others: AsyncIterable[tuple[KnownVm, ...]]) -> AsyncGenerator[bytes]:
    yield _lines([_COLUMNS, *map(_cells, first)])
    async for part in others:
        yield _lines(map(_cells, part))


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    written = io.StringIO()
    # The module's own dialect: a comma, CR LF, and quotation marks where they are needed.
    csv.writer(written).writerows(rows)
    return written.getvalue().encode()


def _cells(vm: KnownVm) -> tuple[str, ...]:
    shown: Mapping[str, object] = vm_response(vm).model_dump(mode="json")
    return tuple(_cell(shown.get(name)) for name in _COLUMNS)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case list():
            return _cell(" ".join(value))
        case _:
            text = str(value)
            return f"'{text}" if text.startswith(_BEGINS_FORMULA) else text
