"""What `docs/architecture.md` says of the structure: which folders there are, how full they are, unique names."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "app"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
LAYERS = ("ngt", "settings", "store", "work", "api")
MOST_MODULES = 17


def section(heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", ARCHITECTURE, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return found[1]


def grid() -> dict[str, list[str]]:
    """Noun to its cell in each layer: `folder/`, `module`, or empty."""
    rows = [line.strip("|").split("|") for line in section("Nouns").splitlines() if line.startswith("| `")]
    return {row[0].strip().strip("`"): [cell.strip().strip("`") for cell in row[1:]] for row in rows}


def modules_of(folder: Path) -> set[str]:
    """The folders below with a slash, and the modules by name."""
    folders = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    return folders | {path.stem for path in folder.glob("*.py") if path.name != "__init__.py"}


def test_a_class_name_stands_for_one_class() -> None:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(APP.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def test_no_folder_has_more_modules_than_a_reader_can_scan() -> None:
    folders = {path.parent for path in APP.rglob("*.py")}
    modules = {folder: [path for path in folder.glob("*.py") if path.name != "__init__.py"] for folder in folders}
    assert {folder: len(paths) for folder, paths in modules.items() if len(paths) > MOST_MODULES} == {}


def test_the_grid_has_each_noun_of_each_layer_under_its_one_spelling() -> None:
    for noun, cells in grid().items():
        assert len(cells) == len(LAYERS), noun
        assert {cell.rstrip("/") for cell in cells} <= {"", noun}, noun


def test_a_layer_has_its_nouns_its_rooms_and_nothing_else() -> None:
    rooms = dict(re.findall(r"^- `app/(\w+)/` also has (.*)$", section("Nouns"), re.MULTILINE))
    for index, layer in enumerate(LAYERS):
        nouns = {cells[index] for cells in grid().values()} - {""}
        assert modules_of(APP / layer) == nouns | set(re.findall(r"`([\w/]+)`", rooms[layer])), layer


def test_each_folder_has_one_line_that_says_its_law() -> None:
    described = re.findall(r"^\| `(app/[\w/]+)/` \| \S", section("Folders"), re.MULTILINE)
    folders = [path.parent.relative_to(ROOT).as_posix() for path in APP.rglob("__init__.py")]
    assert sorted(described) == sorted(set(folders) - {"app"})


def test_the_walk_opens_few_files_and_goes_back_into_none() -> None:
    files = re.findall(r"^\d+\. `(app/[\w/]+\.py)`", section("One request, file by file"), re.MULTILINE)
    assert all((ROOT / name).is_file() for name in files)
    assert len(files) == len(set(files)) <= 12


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:app|tests|migrations|tools|openapi|docs|deploy)/[\w./-]+)`", ARCHITECTURE))
    assert {name for name in named if not (ROOT / name).exists()} == set()
