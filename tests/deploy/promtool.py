"""Prometheus' own tool, which says whether rules and queries are good."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.docs.pages import ROOT
from tests.limits import LIMIT_S

RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
RULE_TESTS = ROOT / "deploy" / "prometheus" / "rules.test.yml"
# Where `tools/need` puts what it may not install.
_UNPACKED = ROOT / ".tools" / "bin"
_METRIC = re.compile(r"\b(?:ngt|http_server)_[a-z0-9_]+\b")


def promtool(*arguments: str | Path) -> tuple[bool, str]:
    """Whether it finds all well, and what it says."""
    program = shutil.which("promtool", path=f"{os.environ.get('PATH', '')}:{_UNPACKED}")
    assert program is not None, "run `tools/need promtool=prometheus`"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def check_queries(queries: Mapping[str, str], folder: Path) -> tuple[bool, str]:
    """Whether Prometheus can read them all, each as a rule under its name."""
    rules = [{"record": f"q{number}", "expr": query} for number, query in enumerate(queries.values())]
    path = folder / "queries.yml"
    # YAML reads JSON.
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}), "utf-8")
    return promtool("check", "rules", path)


def metrics_in(query: str) -> set[str]:
    """The names of series in a query, without what stands in braces."""
    return set(_METRIC.findall(re.sub(r"\{[^{}]*\}|\b(?:by|on|without|ignoring) *\([^()]*\)", "", query)))
