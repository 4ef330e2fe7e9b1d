from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import monitoring
from monitoring.alerts import ALERTS, Alert
from monitoring.generate import REFERENCE, files, reference

HERE = Path(monitoring.__file__).parent
CASES = HERE / "tests"
alerts = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)


def test_the_committed_files_are_what_their_source_generates() -> None:
    assert (HERE.parent / REFERENCE).read_text(encoding="utf-8") == reference()
    for name, text in files().items():
        assert (HERE / name).read_text(encoding="utf-8") == text, f"{name}: run python -m monitoring.generate"


@alerts
def test_the_alert_has_a_firing_a_silent_and_a_missing_case(alert: Alert) -> None:
    document = yaml.safe_load((CASES / f"{alert.name}.yml").read_text(encoding="utf-8"))
    kinds: dict[str, list[str]] = {kind: [] for kind in ("firing", "silent", "missing")}
    for case in document["tests"]:
        kind = case["name"].partition(":")[0]
        kinds[kind] += [
            re.search(r'alertname="(\w+)"', sample["labels"] + test["expr"])[1]  # type: ignore[index]
            for test in case["promql_expr_test"]
            for sample in test["exp_samples"] or [{"labels": ""}]
            if test["exp_samples"] or kind == "silent"
        ]
    assert alert.name in kinds["firing"]
    assert alert.name in kinds["silent"]
    # With its series gone something fires: the alert itself, or the one that stands in for it.
    assert kinds["missing"] and set(kinds["missing"]) <= {alert.name, alert.blind, "ExporterSourceDown"}


def test_every_case_file_belongs_to_an_alert() -> None:
    assert {path.stem for path in CASES.glob("*.yml")} == {alert.name for alert in ALERTS}


@alerts
def test_the_alert_says_whom_it_is_about_and_what_to_do_next(alert: Alert) -> None:
    assert "Next: headgate " in alert.summary
    label = re.search(r"(?:by \((\w+)|\{process=)", alert.expr)
    if alert.name != "Watchdog":
        assert label is not None
        name = label[1] or "process"
        assert f"$labels.{name}" in alert.description and f"$labels.{name}" in alert.summary


@alerts
def test_templates_use_only_labels_that_the_expression_keeps(alert: Alert) -> None:
    used = set(re.findall(r"\$labels\.(\w+)", alert.summary + alert.description))
    kept = {name for group in re.findall(r"by \(([^)]*)\)", alert.expr) for name in group.split(", ")}
    assert used <= kept


def test_stand_ins_are_alerts() -> None:
    assert {alert.blind for alert in ALERTS} <= {alert.name for alert in ALERTS}


def test_the_names_that_issues_use_are_there() -> None:
    names = {alert.name for alert in ALERTS}
    assert {"StreamDown", "StreamStalled", "StreamLagGrowing", "QualityFailed"} <= names
