from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from monitoring.alerts import ALERTS
from monitoring.catalogue import METRICS
from monitoring.dashboards import dashboards
from monitoring.generate import EXPORTER
from monitoring.panels import DATASOURCE_UID
from monitoring.provisioning import provisioning

# Series that Prometheus makes itself, and the labels that it gives to what it scrapes.
OWN_SERIES = {"up": {"job", "instance", "pipeline"}, "ALERTS": {"alertname", "alertstate", "severity"}}
TARGET_LABELS = {"job", "instance", "le"}
SERIES = {series: set(metric.labels) for metric in METRICS for series in metric.series} | OWN_SERIES


def _panels() -> list[dict[str, Any]]:
    return [
        {**panel, "file": name}
        for name, document in dashboards().items()
        for panel in document["panels"]
        if panel["type"] != "row"
    ]


def _panel_queries() -> Iterator[tuple[str, str]]:
    for panel in _panels():
        for target in panel["targets"]:
            yield f"{panel['file']}: {panel['title']}", target["expr"]


def _alert_queries() -> Iterator[tuple[str, str]]:
    for alert in ALERTS:
        yield alert.name, alert.expr
    for rule in provisioning(EXPORTER)["alerting/headgate.yml"]["groups"][0]["rules"]:
        yield f"grafana {rule['title']}", rule["data"][0]["model"]["expr"]


QUERIES = [*_panel_queries(), *_alert_queries()]
panels = pytest.mark.parametrize("panel", _panels(), ids=lambda panel: f"{panel['file']}: {panel['title']}")
queries = pytest.mark.parametrize(("where", "expr"), QUERIES, ids=[where for where, _ in QUERIES])


@functools.cache
def _selectors(expr: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(_substituted(expr)), visit)
    return found


def _substituted(expr: str) -> str:
    return expr.replace("$__rate_interval", "5m").replace("$pipeline", "orders")


def _labels_used(expr: str) -> set[str]:
    clauses = re.findall(r"\b(?:by|on|group_left|ignoring|without)\s*\(([^)]*)\)", expr)
    return {label.strip() for clause in clauses for label in clause.split(",") if label.strip()}


@queries
def test_every_query_is_valid_promql(where: str, expr: str) -> None:
    promql_parser.parse(_substituted(expr))


@queries
def test_every_metric_and_label_of_a_query_is_in_the_catalogue(where: str, expr: str) -> None:
    selectors = _selectors(expr)
    known: set[str] = set(TARGET_LABELS)
    for selector in selectors:
        assert selector.name in SERIES, f"{selector.name} is not in the catalogue"
        known |= SERIES[selector.name]
        for matcher in selector.matchers.matchers:
            assert matcher.name in SERIES[selector.name] | TARGET_LABELS
    assert _labels_used(expr) <= known


def test_the_walk_sees_metrics_inside_ranges_and_subqueries() -> None:
    names = {
        s.name
        for s in _selectors("deriv(sum(a)[10m:1m]) > on(x) rate(b[5m]) unless last_over_time(c[1m]) == 1")
    }
    assert names == {"a", "b", "c"}


def test_every_metric_of_the_catalogue_is_on_a_panel_or_in_an_alert() -> None:
    used = {selector.name for _, expr in QUERIES for selector in _selectors(expr)}
    unused = [metric.name for metric in METRICS if not used & set(metric.series)]
    assert unused == []


@panels
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"] and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


@panels
def test_a_graph_has_a_legend_and_rates_follow_the_scrape_interval(panel: dict[str, Any]) -> None:
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert "rate(" not in target["expr"] or "$__rate_interval" in target["expr"]


@panels
def test_a_panel_of_one_pipeline_selects_it_everywhere(panel: dict[str, Any]) -> None:
    if panel["file"] == "pipeline.json":
        for target in panel["targets"]:
            assert all("$pipeline" not in s.name for s in _selectors(target["expr"]))
            assert target["expr"].count('pipeline="$pipeline"') == len(_selectors(target["expr"]))


@pytest.mark.parametrize("name", ["pipeline.json", "overview.json"])
def test_panels_have_ids_of_their_own_and_do_not_overlap(name: str) -> None:
    found = dashboards()[name]["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    cells = [
        (x, y)
        for panel in found
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_dashboards_are_of_the_schema_that_the_pinned_sdk_writes() -> None:
    assert {document["schemaVersion"] for document in dashboards().values()} == {42}
    assert {document["uid"] for document in dashboards().values()} == {
        "headgate-pipeline",
        "headgate-overview",
    }


def test_the_same_input_gives_the_same_bytes() -> None:
    assert json.dumps(dashboards()) == json.dumps(dashboards())


def test_provisioning_names_the_datasource_that_the_dashboards_choose() -> None:
    files = provisioning(EXPORTER)
    assert files["datasources/headgate.yml"]["datasources"][0]["uid"] == DATASOURCE_UID
    for document in dashboards().values():
        assert document["templating"]["list"][0]["current"]["value"] == DATASOURCE_UID
    assert files["dashboards/headgate.yml"]["providers"][0]["allowUiUpdates"] is False


def test_grafana_gets_every_alert_with_states_chosen_on_purpose() -> None:
    rules = provisioning(EXPORTER)["alerting/headgate.yml"]["groups"][0]["rules"]
    assert [rule["title"] for rule in rules] == [alert.name for alert in ALERTS]
    states = {rule["title"]: rule["noDataState"] for rule in rules}
    assert states["StreamDown"] == states["StreamStalled"] == "Alerting"
    assert states["QualityFailed"] == "OK"
    for rule in rules:
        assert len(rule["uid"]) <= 40
        assert {part["refId"] for part in rule["data"]} == {"A", "B"} and rule["condition"] == "B"


def test_labels_of_grafana_rules_hold_nothing_that_provisioning_would_interpolate() -> None:
    for rule in provisioning(EXPORTER)["alerting/headgate.yml"]["groups"][0]["rules"]:
        assert "$" not in yaml.safe_dump(rule["labels"]) + rule["title"] + rule["uid"]
