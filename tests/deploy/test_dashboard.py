"""The dashboard: Grafana's types accept it, Prometheus its queries, and the service has what they ask for."""

import copy
import json
from pathlib import Path

from tests.deploy.dashboards import DASHBOARD, faults_of_types, panels_of, queries_of, read_dashboard
from tests.deploy.promtool import check_queries, metrics_in


def test_grafanas_types_accept_the_dashboard(tmp_path: Path) -> None:
    assert faults_of_types(read_dashboard(), tmp_path) == []


def test_grafanas_types_find_what_is_wrong(tmp_path: Path) -> None:
    wrong = copy.deepcopy(read_dashboard())
    by_type = {panel["type"]: panel for panel in panels_of(wrong)}
    wrong["refrehs"] = "1m"
    by_type["stat"]["options"]["colorMode"] = "sometimes"
    del by_type["barchart"]["options"]["groupWidth"]
    by_type["timeseries"]["fieldConfig"]["defaults"]["custom"]["lineWith"] = 1
    by_type["table"]["targets"][0]["format"] = "tabel"
    by_type["row"]["gridPos"]["w"] = "wide"
    found = "\n".join(faults_of_types(wrong, tmp_path))
    for word in ("refrehs", "sometimes", "groupWidth", "lineWith", "tabel", "string"):
        assert word in found, word
    other = read_dashboard()
    other["templating"]["list"][0]["type"] = "sourcedata"
    (fault,) = faults_of_types(other, tmp_path)
    assert "sourcedata" in fault


def test_prometheus_reads_every_query(tmp_path: Path) -> None:
    queries = queries_of(read_dashboard())
    good, said = check_queries(queries, tmp_path)
    assert good, said
    assert len(queries) > 30
    assert not any("$" in query for query in queries.values())
    bad, _ = check_queries({**queries, "torn": "sum(ngt_vms"}, tmp_path)
    assert not bad


async def test_the_service_has_every_metric_that_a_query_asks_for(scraped: frozenset[str]) -> None:
    for name, query in queries_of(read_dashboard()).items():
        asked = metrics_in(query)
        assert asked, name
        assert asked <= scraped, (name, asked - scraped)
    clusters = read_dashboard()["templating"]["list"][1]["query"]["query"]
    assert metrics_in(clusters) <= scraped


def test_the_dashboard_belongs_to_no_one_grafana() -> None:
    dashboard = read_dashboard()
    assert not dashboard.keys() & {"id", "uid"}
    sources = [panel["datasource"] for panel in panels_of(dashboard) if "datasource" in panel]
    sources += [target["datasource"] for panel in panels_of(dashboard) for target in panel.get("targets", ())]
    assert {source["uid"] for source in sources} == {"${datasource}"}
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "cluster"]


def test_panels_have_their_own_numbers_and_places() -> None:
    panels = list(panels_of(read_dashboard()))
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


def test_the_file_is_written_in_one_way() -> None:
    assert DASHBOARD.read_text("utf-8") == json.dumps(read_dashboard(), indent=2, ensure_ascii=False) + "\n"
