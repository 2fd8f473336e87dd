"""Nothing that a test started outlives it, also when its process is killed."""

import asyncio
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.limits import LIMIT_S
from tests.processes import ENDS_WITH_US

_ROOT = Path(__file__).resolve().parents[1]
_STARTS_A_PROCESS = f"""
import subprocess, sys
child = subprocess.Popen([*{ENDS_WITH_US!r}, "sleep", "3600"])
print(child.pid, flush=True)
sys.stdin.read()
"""
_STARTS_POSTGRES = """
import sys
from pathlib import Path
from tests.conftest import _embedded_postgres
with _embedded_postgres() as url:
    print(Path(url.partition("host=")[2], "cluster", "postmaster.pid").read_text().split()[0], flush=True)
    sys.stdin.read()
"""


@pytest.mark.field("E10")
@pytest.mark.parametrize("program", [_STARTS_A_PROCESS, _STARTS_POSTGRES], ids=["a command", "PostgreSQL"])
@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "ended"])
async def test_what_a_process_of_tests_started_ends_with_it(program: str, *, is_killed: bool) -> None:
    tests = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), cwd=_ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert tests.stdin is not None
    assert tests.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        pid = int(await tests.stdout.readline())
        if is_killed:
            tests.send_signal(signal.SIGKILL)
        tests.stdin.close()
        await tests.wait()
        while psutil.pid_exists(pid):  # noqa: ASYNC110 - another process ends it
            await asyncio.sleep(0.02)
