from __future__ import annotations

import subprocess

import pytest
from monitoring_examples import NOW, checkpoint, platform, readings, status, verdict
from prometheus_client import CollectorRegistry, generate_latest

from headgate.streams.model import Phase
from monitoring.catalogue import METRICS
from monitoring.exposition import SnapshotCollector
from monitoring.readings import Readings, Stored, Supervised, Sweep, SweepFinding
from monitoring.snapshot import TopicHealth
from monitoring.tools import promtool


def _registry(value: Readings | None = None, *, down: tuple[str, ...] = ()) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: platform(value, down=down)))
    return registry


def _value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"headgate_{name}", labels)


def test_every_metric_of_the_exporter_is_there_when_all_is_known() -> None:
    full = readings(topics=(TopicHealth("orders_in", 2, True),), sweep=Sweep(NOW - 40))
    exposed = {family.name for family in _registry(full).collect()}
    wanted = {m.name.removesuffix("_total") for m in METRICS if "exporter" in m.processes}
    assert exposed == wanted


def test_promtool_accepts_what_is_exposed() -> None:
    text = generate_latest(_registry(readings(topics=(TopicHealth("orders_in", 0, False),)))).decode()
    run = subprocess.run(
        [promtool(), "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_exactly_one_phase_is_on() -> None:
    registry = _registry(readings(supervised=Supervised({"orders": status(phase=Phase.PARKED)}, {}, NOW)))
    phases = {
        str(phase): _value(registry, "stream_state", pipeline="orders", state=str(phase)) for phase in Phase
    }
    assert phases["parked"] == 1 and sum(value or 0 for value in phases.values()) == 1


def test_what_was_taken_back_and_how_old_snapshots_are_is_told() -> None:
    assert _value(_registry(), "stream_rolled_back", pipeline="orders") == 0
    back = status(conditions={"rolled_back": "contract abc was not stable"})
    registry = _registry(readings(supervised=Supervised({"orders": back}, {}, NOW)))
    assert _value(registry, "stream_rolled_back", pipeline="orders") == 1
    assert _value(registry, "snapshot_timestamp_seconds", pipeline="orders") == NOW - 600
    assert _value(registry, "snapshot_interval_seconds", pipeline="orders") == 3600


def test_a_dead_supervisor_leaves_no_series_that_reads_as_healthy() -> None:
    registry = _registry(readings(supervised=None), down=("supervisor",))
    assert _value(registry, "stream_desired", pipeline="orders") == 1  # from the store
    assert _value(registry, "stream_state", pipeline="orders", state="running") is None
    assert _value(registry, "restarts_total", pipeline="orders") is None
    assert _value(registry, "exporter_source_up", source="supervisor") == 0
    assert _value(registry, "exporter_source_success_timestamp_seconds", source="supervisor") == NOW - 90


def test_a_dead_kafka_leaves_no_lag() -> None:
    registry = _registry(readings(lags=None), down=("kafka",))
    assert _value(registry, "lag_seconds", pipeline="orders", query="records", topic="orders_in") is None
    assert _value(registry, "committed_rows_total", pipeline="orders", outcome="read") == 100


def test_lag_is_told_per_query_and_partition() -> None:
    registry = _registry()
    labels = {"pipeline": "orders", "topic": "orders_in"}
    assert _value(registry, "lag_records", query="records", partition="0", **labels) == 3
    assert _value(registry, "lag_seconds", query="total", **labels) == 2.0


@pytest.mark.parametrize(
    ("state", "severity"), [("failed", "critical"), ("passed", "none"), ("no_data", "none")]
)
def test_one_combination_of_verdict_and_severity_is_on_and_all_are_there(state: str, severity: str) -> None:
    value = readings(stored=Stored({"orders": (verdict(state, "" if severity == "none" else severity),)}))
    samples = next(f for f in _registry(value).collect() if f.name == "headgate_quality_verdict").samples
    assert len(samples) == 16
    on = [(s.labels["verdict"], s.labels["severity"]) for s in samples if s.value]
    assert on == [(state, severity)]


def test_the_promises_of_the_contract_are_series() -> None:
    registry = _registry()
    assert _value(registry, "slo_freshness_seconds", pipeline="orders") == 30
    assert _value(registry, "slo_quarantined_ratio", pipeline="orders") == 0.02
    assert _value(registry, "trigger_interval_seconds", pipeline="orders") == 2
    assert _value(registry, "quality_interval_seconds", pipeline="orders") == 300
    assert _value(registry, "retention_seconds", pipeline="orders", topic="orders_in") == 3600


def test_a_difference_in_the_books_shows() -> None:
    registry = _registry(readings(checkpoints={"orders": checkpoint(difference=-2)}))
    assert _value(registry, "conservation_difference", pipeline="orders", query="records") == -2


def test_the_moments_of_all_loops_are_told() -> None:
    registry = _registry(readings(sweep=Sweep(NOW - 40)))
    assert _value(registry, "reconcile_timestamp_seconds", process="airflow") == NOW - 40
    assert _value(registry, "reconcile_timestamp_seconds", process="exporter") == NOW - 1
    assert _value(registry, "reconcile_timestamp_seconds", process="supervisor") == NOW - 1


def test_what_the_sweep_found_is_a_series_for_each_finding() -> None:
    swept = Sweep(NOW - 40, {"orders": SweepFinding("paused", "", status().generation)})
    registry = _registry(readings(sweep=swept))
    for finding, value in (("paused", 1), ("unwatched", 0), ("ownerless", 0)):
        assert _value(registry, "stream_airflow_finding", pipeline="orders", finding=finding) == value


@pytest.mark.parametrize("swept", [None, Sweep(NOW - 200)])
def test_without_a_recent_sweep_there_is_no_finding_and_no_all_clear(swept: Sweep | None) -> None:
    registry = _registry(readings(sweep=swept))
    assert _value(registry, "stream_airflow_finding", pipeline="orders", finding="paused") is None
