"""What `docs/architecture.md` says of the structure: which folders there are, how full they are, unique names."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "app"
MOST_MODULES = 17


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
