"""The searchable half of the rule for plain English: tools/check_english.py [FILE…], all tracked files without one."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Each pattern with what to write instead.
EVERYWHERE = {
    r"(?<![Tt]here )\b(?:is|are|was|were) no (?!(?:longer|more|later|older|earlier|less|fewer|one|other than)\b)\w+": (
        'put the negation on the verb: "is not a"'
    ),
    r"\b[Ww]hoever\b": "name the subject",
    r",\s+for (?:it|they|he|she|whoever)\b": 'write "because"',
    r"\btold of\b": "name the verb: shows, sends, reports",
    r"\b[Mm]end(?:s|ed|ing)?\b": 'write "fix" or "repair"',
    r"\b(?:by itself|by themselves)\b": 'write "automatically", or leave it out',
    r"\b(?:naught|thereof|hereby|whereby|henceforth|lest)\b": "write a word of today",
}
FIRST_WORD = re.compile(r"(?:^|[.!?:] )(?:What|Whoever|Whom|Whose|That|Whether|How|Why|Who|Which)\b(?![^.]*\?)")
CODE_BLOCK = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)\s*?$", re.DOTALL | re.MULTILINE)
INLINE_CODE = re.compile(r"`[^`\n]*`")


def main(names: list[str]) -> int:
    paths = [Path(name).resolve() for name in names] if names else _tracked()
    faults = [f"{path.relative_to(ROOT)}:{line}: {fault}" for path in paths for line, fault in _faults_of(path)]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


def _tracked() -> list[Path]:
    wanted = ["app", "docs", "migrations", "tools", "README.md", "CHANGELOG.md"]
    command = ["git", "ls-files", *wanted]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.suffix in {".py", ".md"} and path != Path(__file__).resolve()]


def _faults_of(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text("utf-8")
    sentences = _of_python(text) if path.suffix == ".py" else _of_markdown(text)
    for line, passage, begins in sentences:
        shown = " ".join(passage.split())
        for pattern, better in EVERYWHERE.items():
            if found := re.search(pattern, shown):
                yield line, f"{found[0]!r}: {better} ({shown[:90]})"
        if begins and (found := FIRST_WORD.search(shown)):
            yield line, f"{found[0]!r} begins a sentence: begin with the thing itself ({shown[found.start() :][:90]})"


def _of_python(text: str) -> Iterator[tuple[int, str, bool]]:
    """Line, passage, and whether it begins a sentence: docstrings, comments, and the strings that people read."""
    docstrings = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                docstrings.add(first.value.lineno)
                yield first.value.lineno, INLINE_CODE.sub("x", first.value.value), True
    comment: list[str] = []
    began = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            began = began or token.start[0]
            comment.append(token.string.lstrip("#").strip())
        elif token.type != tokenize.NL:
            if comment:
                yield began, INLINE_CODE.sub("x", " ".join(comment)), True
            comment, began = [], 0
        if token.type == tokenize.STRING and token.start[0] not in docstrings and " " in token.string:
            yield token.start[0], INLINE_CODE.sub("x", token.string.strip("rbfu\"'")), False


def _of_markdown(text: str) -> Iterator[tuple[int, str, bool]]:
    text = CODE_BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            plain = INLINE_CODE.sub("x", line.strip().lstrip("-*|> 0123456789."))
            yield number, plain, not line.lstrip().startswith(("#", "|"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
