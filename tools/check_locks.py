"""Checks the locks against pyproject.toml, offline: each requirement has its pin, and each pin its hashes."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
HINT = "run `make lock`"


def main() -> int:
    faults = list(find_faults())
    for fault in faults:
        print(f"{fault}: {HINT}", file=sys.stderr)
    return 1 if faults else 0


def find_faults() -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    runtime = project["project"]["dependencies"]
    wanted = {
        "runtime.txt": runtime,
        "dev.txt": [*runtime, *groups["dev"], *groups["build"]],
        "build.txt": [*groups["build"], *project["build-system"]["requires"]],
        "clients.txt": groups["clients"],
    }
    pins = {}
    for name, requirements in wanted.items():
        text = (ROOT / "locks" / name).read_text()
        pins[name] = read_pins(text)
        yield from (f"locks/{name}: {fault}" for fault in faults_of_lock(text, requirements))
    for name in ("runtime.txt", "build.txt"):
        for package, versions in pins[name].items():
            if pins["dev.txt"].get(package) != versions:
                yield f"locks/{name} and locks/dev.txt have different versions of {package}"


def faults_of_lock(text: str, requirements: list[str]) -> Iterator[str]:
    pins = read_pins(text)
    for requirement in map(Requirement, requirements):
        versions = pins.get(canonicalize_name(requirement.name))
        if versions is None:
            yield f"{requirement.name} is not pinned"
        elif not all(requirement.specifier.contains(version) for version in versions):
            yield f"{requirement.name} is pinned to {', '.join(versions)} and must be {requirement.specifier}"
    for entry in re.split(r"\n(?=\S)", text):
        if not entry.startswith("#") and "--hash=sha256:" not in entry:
            yield f"{entry.splitlines()[0]!r} is not a pin with hashes"
    if "://" in text or str(ROOT) in text:
        yield "it names an index or a folder"


def read_pins(text: str) -> dict[str, list[str]]:
    """The versions of each package; there may be several, for different platforms and versions of Python."""
    pins: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)", text, re.MULTILINE):
        pins.setdefault(canonicalize_name(name), []).append(version)
    return pins


if __name__ == "__main__":
    sys.exit(main())
