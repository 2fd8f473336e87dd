"""The alerts: promtool tries each, its page says what to do, and the service has the metrics that it asks for."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.promtool import RULE_TESTS, RULES, metrics_in, promtool
from tests.docs.pages import PAGES

Rule = dict[str, Any]


def _rules() -> dict[str, Rule]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules), "an alert stands twice"
    return {rule["alert"]: rule for rule in rules}


ALERTS = _rules()
every_alert = pytest.mark.parametrize("alert", ALERTS)


def test_prometheus_reads_the_rules() -> None:
    good, said = promtool("check", "rules", RULES)
    assert good, said


def test_prometheus_reads_its_configuration() -> None:
    good, said = promtool("check", "config", "--syntax-only", RULES.with_name("prometheus.yml"))
    assert good, said


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    good, said = promtool("test", "rules", RULE_TESTS)
    assert good, said


@every_alert
def test_an_alert_is_tried_both_ways(alert: str) -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text("utf-8"))["tests"]
    tried = [
        bool(check["exp_alerts"]) for test in tests for check in test["alert_rule_test"] if check["alertname"] == alert
    ]
    assert set(tried) == {True, False}


@pytest.mark.parametrize(("expression", "noticed_by"), [("vector(0) > 1", "firing"), ("vector(1)", "silence")])
def test_the_tests_of_the_rules_find_what_is_wrong(tmp_path: Path, expression: str, noticed_by: str) -> None:
    rules, tests = (yaml.safe_load(path.read_text("utf-8")) for path in (RULES, RULE_TESTS))
    for group in rules["groups"]:
        group["rules"] = [{"alert": rule["alert"], "expr": expression} for rule in group["rules"]]
    for test in tests["tests"]:
        checks = test["alert_rule_test"]
        test["alert_rule_test"] = [check for check in checks if bool(check["exp_alerts"]) == (noticed_by == "firing")]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules), "utf-8")
    (tmp_path / "rules.test.yml").write_text(yaml.safe_dump(tests), "utf-8")
    good, said = promtool("test", "rules", tmp_path / "rules.test.yml")
    assert not good
    assert set(re.findall(r"alertname: (\w+),", said)) == ALERTS.keys()


@every_alert
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_the_next_step_stands(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{alert.lower()}"
    page = PAGES["alerts.md"]
    assert re.findall(rf"^## {alert}$", page, re.MULTILINE), f"docs/alerts.md has no section {alert}"


def test_the_page_of_alerts_has_no_section_of_another_one() -> None:
    assert set(re.findall(r"^## (Ngt\w+)$", PAGES["alerts.md"], re.MULTILINE)) == ALERTS.keys()


async def test_the_service_has_every_metric_that_an_alert_asks_for(scraped: frozenset[str]) -> None:
    for alert, rule in ALERTS.items():
        asked = metrics_in(rule["expr"])
        assert asked, alert
        texts = re.findall(r'"([^"]*\bngt_.*?)"\s+\$labels', rule["annotations"]["description"], re.DOTALL)
        asked |= {name for text in texts for name in metrics_in(text)}
        assert asked <= scraped, (alert, asked - scraped)


async def test_every_metric_of_the_operators_page_is_one_of_the_service_and_the_other_way_round(
    scraped: frozenset[str],
) -> None:
    documented = set(
        re.findall(r"\b(?:ngt|http_server)_[a-z0-9_]+", PAGES["operating.md"].partition("## Metrics\n")[2])
    )
    base = {re.sub(r"_(bucket|sum|count)$", "", name) for name in scraped if not name.startswith("process_")}
    assert documented == base
