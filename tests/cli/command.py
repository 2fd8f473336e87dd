"""The command line as an operator has it: each command is a process of its own, in a folder of its own.

Whatever an operator does wrong, no traceback is shown: every process is looked through for one.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.limits import LIMIT_S

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str


@dataclass(slots=True)
class Running:
    """A command that runs until it is stopped; `lines` is what it has said on stderr so far.

    `silent`: it says nothing any more, since it has ended.
    """

    process: asyncio.subprocess.Process
    stdout: asyncio.StreamReader
    lines: list[str] = field(default_factory=list)
    silent: bool = False
    _said: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def listen(self, stderr: asyncio.StreamReader) -> None:
        async for line in stderr:
            async with self._said:
                self.lines.append(line.decode().rstrip("\n"))
                self._said.notify_all()
        async with self._said:
            self.silent = True
            self._said.notify_all()

    async def said(self, word: str) -> str:
        """The first line with the word in it, as soon as it is there; fails when the process ends without it."""
        async with asyncio.timeout(LIMIT_S), self._said:
            await self._said.wait_for(lambda: self._find(word) is not None or self.silent)
        line = self._find(word)
        assert line is not None, "\n".join(self.lines)
        return line

    async def url(self) -> str:
        """Where it serves, as soon as it does."""
        event: dict[str, Any] = json.loads(await self.said('"msg": "listening"'))
        return str(event["url"])

    async def ended(self) -> int:
        """Its exit status, when it ends by itself."""
        async with asyncio.timeout(LIMIT_S):
            return await self.process.wait()

    async def stopped(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status after this signal."""
        self.process.send_signal(number)
        return await self.ended()

    def _find(self, word: str) -> str | None:
        return next((line for line in self.lines if word in line), None)


@dataclass(slots=True)
class Commands:
    """Starts `ngt-renewal …` in `folder`, with nothing of our own settings and with `environment`.

    `configuration` is the TOML file that it reads, unless it is told another.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def configuration(self) -> Path:
        return self.folder / "ngt-renewal.toml"

    async def run(self, *arguments: str, **environment: str) -> Ended:
        """A command to its end."""
        async with self._process(arguments, environment) as process, asyncio.timeout(LIMIT_S):
            stdout, stderr = await process.communicate()
            assert process.returncode is not None
            return _looked_through(Ended(process.returncode, stdout.decode(), stderr.decode()))

    @asynccontextmanager
    async def running(self, *arguments: str, **environment: str) -> AsyncIterator[Running]:
        """A command that goes on; killed at the end, if it still runs."""
        async with self._process(arguments, environment) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            running = Running(process, process.stdout)
            listening = asyncio.create_task(running.listen(process.stderr))
            yield running
            if process.returncode is None:
                process.kill()
                await process.wait()
            await listening
            _looked_through(Ended(process.returncode or 0, "", "\n".join(running.lines)))

    @asynccontextmanager
    async def _process(
        self, arguments: tuple[str, ...], environment: Mapping[str, str]
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", *arguments),
            cwd=self.folder,
            env={**_environment(), **self.environment, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _environment() -> dict[str, str]:
    ours = ("NGT_RENEWAL_", "DATABASE_URL", "PUBLIC_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def _looked_through(ended: Ended) -> Ended:
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended
