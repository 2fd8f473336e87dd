"""The words of the pages are those of the code, and the repository speaks of nothing but the project."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from app.__main__ import cli
from app.api.callers.authorization import SCOPES
from app.main import openapi_document
from app.ngt.errors import FaultCode
from app.ngt.renewal.progress import StepName, WaitReason
from app.settings.callers.scopes import Scope
from app.store.records.jobs import JobStatus
from app.work.renewal.run import _STATUS_OF_OUTCOME
from tests.docs.pages import PAGES, ROOT, command_lines, rows, section, words
from tools import diagnosis_page
from tools.errors_page import PAGE, page

# Words of other programs, which the code does not use.
FOREIGN = {"python3-venv", "pg_dump", "rule_files", "runbook_url"}
# What the repository must not speak of: paths of one machine, people's addresses, where packages came from.
FORBIDDEN = (
    r"(?<![\w.])/(?:work|root|Users)/[a-z]",
    r"(?<![\w.])/home/(?!nutanix/)[a-z]",
    r"[\w.+-]+@[\w-]+\.(?:com|net|org|io|de)\b",
    r"(?:pypi|crates|npmjs|artifactory|nexus)[\w.-]*\.(?:org|io|com|net|internal)",
    r"--(?:extra-)?index-url",
    r"\bissue #?\d+\b",
)


def test_the_page_of_errors_is_fresh() -> None:
    assert PAGE.read_text("utf-8") == page(), "run `make docs`"


def test_the_page_of_diagnoses_is_fresh() -> None:
    assert diagnosis_page.PAGE.read_text("utf-8") == diagnosis_page.page(), "run `make docs`"


def test_the_scopes_are_those_that_the_operations_ask_for() -> None:
    paths: dict[str, dict[str, Any]] = openapi_document()["paths"]
    operations = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, methods in paths.items()
        for method, operation in methods.items()
    }
    documented = {operations[call]: row[0] for row in rows(section("api.md", "Who may call")) for call in words(row[1])}
    assert documented == {
        operation: "none needed" if scopes is None else ", ".join(f"`{scope}`" for scope in scopes) or "any key"
        for operation, scopes in SCOPES.items()
    }
    named = section("operating.md", "Keys").partition("Scopes: ")[2].partition(".")[0]
    assert words(named) == list(Scope)


def test_every_reason_to_wait_is_documented() -> None:
    assert {word for row in rows(section("api.md", "While it waits")) for word in words(row[0])} == set(WaitReason)


def test_every_outcome_is_documented() -> None:
    documented = {words(row[0])[0] for row in rows(section("README.md", "What the outcomes mean"))}
    assert documented == {*_STATUS_OF_OUTCOME, JobStatus.CANCELLED}


def test_every_step_is_documented() -> None:
    steps = section_before("procedure.md", "Refused before anything is changed")
    assert {word for row in rows(steps) for word in words(row[0])} == set(StepName)


def section_before(name: str, heading: str) -> str:
    return PAGES[name].partition(f"## {heading}")[0]


def test_every_member_of_a_request_is_documented_with_its_default() -> None:
    members = openapi_document()["components"]["schemas"]["RenewRequest"]["properties"]
    documented = {name: row[1] for row in rows(section("api.md", "Starting a job")) for name in words(row[0])}
    assert documented.keys() == members.keys()
    for name, member in members.items():
        if "default" in member:
            default = member["default"]
            shown = f"`{default}`" if isinstance(default, str) else str(default).lower()
            assert documented[name] == shown, name


def test_every_word_of_the_pages_stands_in_the_code() -> None:
    sources = [*sorted((ROOT / "app").rglob("*.py")), ROOT / "pyproject.toml", ROOT / "openapi" / "openapi.json"]
    code = set(re.findall(r"[a-z0-9]+(?:[-_][a-z0-9]+)+", "\n".join(path.read_text("utf-8") for path in sources)))
    for name, text in PAGES.items():
        used = {word for word in words(text) if re.fullmatch(r"[a-z0-9]+(?:[-_][a-z0-9]+)+", word)}
        # A recipe is full of the words of its tool.
        assert used - FOREIGN <= code or name.startswith("callers/"), name


@pytest.mark.parametrize(
    ("member", "known"),
    [("wait_reason", set(WaitReason)), ("error_code", set(FaultCode)), ("status", set(JobStatus))],
)
def test_values_that_the_pages_give_exist(member: str, known: set[str]) -> None:
    for name, text in PAGES.items():
        given = set(re.findall(rf'\b{member}(?:: |=|": ")([a-z][a-z_-]+)', text))
        assert given <= known, name


def _command(arguments: list[str]) -> Any:
    """The command that the words name; what is left of them are its arguments."""
    command: Any = typer.main.get_command(cli)
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    return command


@pytest.mark.parametrize("line", [line for name in PAGES for line in command_lines(name, "ngt-renewal")])
def test_every_command_line_of_the_blocks_is_accepted(line: str) -> None:
    arguments = shlex.split(line)[1:]
    command = _command(arguments)
    command.make_context("ngt-renewal", arguments)


@pytest.mark.parametrize("name", PAGES)
def test_commands_named_in_the_text_have_the_options_that_are_named(name: str) -> None:
    for line in words(PAGES[name]):
        if line.startswith("ngt-renewal "):
            # What stands in brackets may be left out.
            arguments = shlex.split(re.sub(r"[\[\]]", "", line))[1:]
            known = {option for parameter in _command(arguments).params for option in parameter.opts}
            assert {argument for argument in arguments if argument.startswith("--")} <= known, line


def test_every_target_of_make_that_the_pages_name_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {word.split()[1] for text in PAGES.values() for word in words(text) if word.startswith("make ")}
    assert named <= targets
    assert {line.split()[1] for line in command_lines("README.md", "make")} <= targets


def test_every_link_of_the_pages_leads_somewhere() -> None:
    for name, text in PAGES.items():
        folder = ROOT if name == "README.md" else (ROOT / "docs" / name).parent
        for target in re.findall(r"\]\(([^)#]+)", text):
            assert "://" in target or (folder / target).exists(), (name, target)


def test_the_repository_speaks_of_the_project_alone() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    forbidden = re.compile("|".join(FORBIDDEN))
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if not path.is_file() or path == Path(__file__):
            continue
        found = forbidden.search(path.read_text("utf-8", "replace"))
        assert found is None, f"{name}: {found}"
