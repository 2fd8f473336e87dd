"""What the pages of documentation say, taken apart: their tables, their blocks, and the words in backticks."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_DOCS = ROOT / "docs"
_PATHS = {
    "README.md": ROOT / "README.md",
    **{str(path.relative_to(_DOCS)): path for path in sorted(_DOCS.glob("*.md"))},
}
_PATHS |= {str(path.relative_to(_DOCS)): path for path in sorted((_DOCS / "callers").glob("*.md"))}
PAGES = {name: path.read_text("utf-8") for name, path in _PATHS.items()}

_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_WORD = re.compile(r"`([^`]+)`")


def section(page: str, heading: str) -> str:
    """The text under a heading of the second level."""
    _, found, after = PAGES[page].partition(f"## {heading}\n")
    assert found, f"{page} has no section {heading!r}"
    return after.partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in the text, without heads and rules."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    body = [line for line, before in zip(lines[1:], lines, strict=False) if not line.startswith("|---") and before]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in body if _WORD.search(line)]


def words(text: str) -> list[str]:
    """What stands in backticks, outside of blocks."""
    return _WORD.findall(_BLOCK.sub("", text))


def blocks(page: str, language: str = "") -> list[str]:
    """The blocks of that language, without their indentation."""
    found = [block for name, block in _BLOCK.findall(PAGES[page]) if name == language]
    return [re.sub(rf"^ {{{len(block) - len(block.lstrip(' '))}}}", "", block, flags=re.MULTILINE) for block in found]


def command_lines(page: str, program: str) -> list[str]:
    """The lines of the page's blocks that call the program; a line that ends in a backslash goes on."""
    joined = [re.sub(r"\\\n *", "", block) for block in blocks(page)]
    return [line.strip() for block in joined for line in block.splitlines() if line.strip().startswith(f"{program} ")]
