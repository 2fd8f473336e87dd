"""Writes docs/errors.md from the rules of the faults: `make docs`. A test fails when the page is stale."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"


def page() -> str:
    """The whole page."""
    sys.path.insert(0, str(ROOT))
    from app.api.http.problems import STATUS  # noqa: PLC0415 - found only with the path above
    from app.ngt.errors import RULES  # noqa: PLC0415 - as above

    lines = [
        "# Error codes",
        "",
        "Written by `tools/errors_page.py`. Each code is stable. In a job it is `error_code`, with `error_message`",
        "for the case, `error_action` and `error_retryable`; as an HTTP problem it is `code`, with the status below.",
        "",
        "| code | HTTP | what it is | what to do | who | retry |",
        "|---|---|---|---|---|---|",
    ]
    for code, rule in RULES.items():
        status = STATUS.get(code)
        again = "yes" if rule.retryable else "no"
        lines.append(f"| `{code}` | {status or 'in a job'} | {rule.title} | {rule.action} | {rule.actor} | {again} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
