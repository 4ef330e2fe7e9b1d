from __future__ import annotations

import re
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from headgate.streams.model import Phase
from monitoring.catalogue import LABEL_VALUES, METRICS, Metric, build, by_name, family, precreate
from monitoring.tools import promtool

PROCESSES = ("driver", "exporter", "supervisor", "producer", "serving")


def _sample(process: str) -> str:
    registry = CollectorRegistry()
    collectors = build(registry, process)  # type: ignore[arg-type]
    for name, collector in collectors.items():
        collector.labels(*(f"{label}_1" for label in by_name(name).labels))
    return generate_latest(registry).decode()


def test_every_name_is_there_once_and_has_the_prefix() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"headgate_[a-z_]+", name) for name in names)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_name_ends_as_its_type_and_unit_ask(metric: Metric) -> None:
    assert (metric.type == "counter") == metric.name.endswith("_total")
    assert (metric.type == "info") == metric.name.endswith("_info")
    if metric.unit:
        assert metric.name.endswith(metric.unit)
    assert (metric.type == "histogram") == bool(metric.buckets)
    assert metric.help.endswith(".")


def test_no_label_can_grow_without_end() -> None:
    forbidden = {"offset", "batch_id", "run_id", "application_id", "error", "exception", "path", "table"}
    assert not {label for metric in METRICS for label in metric.labels} & forbidden


@pytest.mark.parametrize("process", PROCESSES)
def test_promtool_accepts_the_exposition(process: str) -> None:
    run = subprocess.run(
        [promtool(), "check", "metrics"], input=_sample(process), text=True, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_two_registries_do_not_share_collectors() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    build(first, "driver")["headgate_state_rows"].labels("a", "records").set(3)  # type: ignore[union-attr]
    build(second, "driver")
    assert first.get_sample_value("headgate_state_rows", {"pipeline": "a", "query": "records"}) == 3
    assert second.get_sample_value("headgate_state_rows", {"pipeline": "a", "query": "records"}) is None


def test_created_series_are_switched_off() -> None:
    assert "_created" not in _sample("driver")


def test_precreated_counters_start_at_zero_and_gauges_do_not() -> None:
    registry = CollectorRegistry()
    labels = {"pipeline": ["a"], "query": ["records", "average"]}
    precreate(build(registry, "driver"), labels)
    row = {"pipeline": "a", "query": "average", "outcome": "good"}
    assert registry.get_sample_value("headgate_rows_total", row) == 0
    gauge = registry.get_sample_value(
        "headgate_last_progress_timestamp_seconds", {"pipeline": "a", "query": "average"}
    )
    assert gauge is None


def test_a_family_refuses_values_that_do_not_fit_its_labels() -> None:
    with pytest.raises(ValueError, match="headgate_lag_seconds"):
        family("headgate_lag_seconds", [(("a",), 1.0)])


def test_an_unknown_name_says_where_names_live() -> None:
    with pytest.raises(KeyError, match="METRICS"):
        by_name("headgate_nothing")


def test_closed_label_values_belong_to_labels_that_exist() -> None:
    for name, labels in LABEL_VALUES.items():
        assert set(labels) <= set(by_name(name).labels)


def test_the_phases_are_those_of_the_supervisor() -> None:
    assert set(LABEL_VALUES["headgate_stream_state"]["state"]) == {str(phase) for phase in Phase}
