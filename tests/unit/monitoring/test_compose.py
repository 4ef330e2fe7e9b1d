from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from monitoring_examples import (
    NOW,
    applied,
    checkpoint,
    driver,
    lag,
    orders,
    platform,
    readings,
    status,
    verdict,
)

from headgate.streams.model import Desired, Owner, Phase, QueryProgress
from monitoring.readings import (
    CheckpointReading,
    DriverReport,
    Stored,
    Supervised,
    Sweep,
    SweepFinding,
)
from monitoring.snapshot import OutputVerdict

NEEDED = {
    "pipeline", "state", "desired", "generation", "epoch", "rows_read", "rows_quarantined", "lag_records",
    "lag_seconds", "last_commit", "batch_id", "verdict", "restarts", "next_attempt", "reason",
}  # fmt: skip


def _supervised(**changes: Any) -> Supervised:
    return Supervised({"orders": status(**changes)}, {}, NOW)


def test_a_healthy_stream_has_every_field_and_no_condition() -> None:
    found = orders()
    assert found.state == "running" and found.desired == "running"
    assert (found.generation, found.epoch, found.restarts) == (2, 4, 1)
    assert found.rows is not None and (found.rows.read, found.rows.quarantined) == (100, 2)
    assert found.conditions == ()
    assert found.ordered_by == "cli:ada"


def test_a_stream_is_as_late_as_its_worst_query() -> None:
    found = orders()
    assert (found.lag_records, found.lag_seconds) == (5, 2.0)
    assert found.last_commit_at == NOW - 3


def test_the_json_has_the_promised_keys_and_is_json() -> None:
    document = orders().to_json()
    assert set(document) >= NEEDED
    assert json.loads(json.dumps(document))["last_commit"] == "2027-01-15T07:59:57.000Z"


def test_without_the_supervisor_the_state_is_unknown_and_the_rest_is_still_shown() -> None:
    found = orders(readings(supervised=None))
    assert (found.state, found.desired, found.restarts) == ("unknown", "running", None)
    assert found.reason == "the supervisor does not answer"
    assert found.rows is not None and found.lag_records == 5
    assert (found.generation, found.epoch, found.driver_alive) == (2, 4, True)


def test_without_supervisor_and_store_it_is_not_known_what_is_wanted() -> None:
    assert orders(readings(supervised=None, stored=None)).desired == "unknown"


def test_without_kafka_the_lag_is_unknown_and_never_zero() -> None:
    found = orders(readings(lags=None))
    assert found.lag_records is None and found.lag_seconds is None
    assert "lag unknown" in found.conditions
    assert found.state == "running"


def test_an_applied_pipeline_that_never_started_is_stopped_and_says_how_to_start() -> None:
    empty = readings(
        supervised=Supervised({}, {}, NOW), drivers={}, checkpoints={"orders": CheckpointReading()}
    )
    found = orders(empty)
    assert (found.state, found.desired, found.generation, found.restarts) == ("stopped", "stopped", 0, 0)
    assert found.reason == "never started; next: headgate start orders"
    assert found.forgotten is False


@pytest.mark.parametrize(
    "traces",
    [
        {"drivers": {}},
        {"checkpoints": {"orders": CheckpointReading()}},
        {"drivers": {}, "checkpoints": {"orders": CheckpointReading(lineage="l1")}},
    ],
    ids=["a checkpoint", "a live driver", "a lineage without a commit"],
)
def test_a_stream_that_has_run_and_has_no_record_is_unknown_and_never_called_new(
    traces: dict[str, Any],
) -> None:
    found = orders(readings(supervised=Supervised({}, {}, NOW), **traces))
    assert (found.state, found.desired, found.forgotten) == ("unknown", "unknown", True)
    assert "the supervisor does not know a stream that has run" in found.conditions
    assert "never started" not in found.reason


def test_only_a_supervisor_that_answers_can_have_forgotten() -> None:
    assert orders().forgotten is False
    assert orders(readings(supervised=None)).forgotten is None


def test_a_driver_that_runs_another_contract_is_marked() -> None:
    old = driver(contract_hash="old")
    found = orders(readings(supervised=_supervised(driver=old), drivers={"orders": DriverReport(old, True)}))
    assert found.contract_pending and "contract pending" in found.conditions
    assert found.running_hash == "old" and found.applied_hash == applied().pointer.hash


def test_a_driver_of_another_version_is_marked() -> None:
    old = driver(headgate_version="0.0.9")
    found = orders(readings(drivers={"orders": DriverReport(old, True)}))
    assert found.outdated and "driver runs headgate 0.0.9" in found.conditions


def test_a_stopped_stream_waits_for_no_contract() -> None:
    stopped = _supervised(
        phase=Phase.STOPPED, desired=Desired.STOPPED, driver_alive=False, contract_hash="old"
    )
    found = orders(readings(supervised=stopped, drivers={}))
    assert not found.contract_pending and found.metrics_port is None


def test_a_stream_that_waits_to_be_restarted_with_an_older_contract_is_marked() -> None:
    waiting = _supervised(phase=Phase.BACKOFF, driver_alive=False, contract_hash="old", driver=None)
    assert "contract pending" in orders(readings(supervised=waiting, drivers={})).conditions


def test_what_only_the_supervisor_can_know_is_shown_in_its_words() -> None:
    told = _supervised(conditions={"suspended": "the platform is suspended", "stalled": "told twice"})
    found = orders(readings(supervised=told)).conditions
    assert found == ("the platform is suspended", "stalled: told twice")


def test_a_stream_without_an_applied_contract_is_shown_and_marked() -> None:
    found = orders(readings(contracts={}))
    assert "no contract applied" in found.conditions and found.applied_hash is None


def test_whether_a_query_is_stalled_is_the_supervisors_to_say() -> None:
    """It knows what was idle until now, and what has just begun."""
    found = orders(readings(checkpoints={"orders": checkpoint(committed_at=NOW - 9000)}))
    assert found.conditions == ()


@pytest.mark.parametrize(
    ("committed", "waited", "stalled"),
    [(61, 61.0, True), (61, None, True), (59, 59.0, False), (9000, 3.0, False)],
)
def test_without_a_supervisor_a_query_whose_records_wait_for_long_is_stalled(
    committed: float, waited: float | None, stalled: bool
) -> None:
    """One that had nothing to read for long, and then gets something, is not."""
    found = orders(
        readings(
            supervised=None,
            checkpoints={"orders": checkpoint(committed_at=NOW - committed)},
            lags={"orders": {"records": replace(lag(), seconds=waited), "total": lag(0, 0.0)}},
        )
    )
    assert ("query records is stalled" in found.conditions) is stalled


def test_a_query_with_nothing_to_read_is_idle_and_not_stalled() -> None:
    idle = readings(
        checkpoints={"orders": checkpoint(committed_at=NOW - 9000)},
        lags={"orders": {"records": lag(0, 0.0), "total": lag(0, 0.0)}},
    )
    assert orders(idle).conditions == ()


def test_a_stopped_stream_is_not_stalled() -> None:
    stopped = _supervised(phase=Phase.STOPPED, desired=Desired.STOPPED, driver_alive=False)
    found = orders(readings(supervised=stopped, checkpoints={"orders": checkpoint(committed_at=NOW - 9000)}))
    assert not any("stalled" in text for text in found.conditions)


def test_a_dead_query_in_a_live_driver_is_told() -> None:
    half = driver(queries={"records": QueryProgress(), "total": QueryProgress(active=False, error="boom")})
    found = orders(readings(drivers={"orders": DriverReport(half, True)}))
    assert "query total is not running" in found.conditions
    assert [query.error for query in found.queries] == [None, "boom"]


def test_a_report_of_an_older_epoch_does_not_speak_for_the_new_driver() -> None:
    old = driver(epoch=3, metrics_port=11111)
    found = orders(readings(drivers={"orders": DriverReport(old, False)}))
    assert found.metrics_port == 40001 and found.driver_alive is True


def test_before_the_supervisors_first_look_the_drivers_own_report_speaks() -> None:
    restarted = _supervised(driver=None, driver_alive=None)
    found = orders(readings(supervised=restarted))
    assert (found.driver_alive, found.metrics_port) == (True, 40001)
    assert "driver gone" not in found.conditions
    dead = orders(readings(supervised=restarted, drivers={"orders": DriverReport(driver(), False)}))
    assert dead.driver_alive is False and "driver gone" in dead.conditions


def test_a_report_of_an_older_epoch_does_not_stand_in_for_a_look() -> None:
    restarted = _supervised(driver=None, driver_alive=None)
    old = {"orders": DriverReport(driver(epoch=3), True)}
    assert orders(readings(supervised=restarted, drivers=old)).driver_alive is None
    assert orders(readings(supervised=restarted, drivers={})).driver_alive is None


def test_the_verdict_is_that_of_the_worst_output() -> None:
    both = (verdict(), OutputVerdict("total", "errored", "", NOW, None))
    assert orders(readings(stored=Stored({"orders": both}))).verdict == "errored"
    assert orders(readings(stored=Stored({"orders": ()}))).verdict is None


def test_the_checkpoint_of_one_pipeline_that_cannot_be_read_is_told() -> None:
    assert "checkpoints unknown" in orders(readings(checkpoints={})).conditions


def test_everything_dead_still_gives_a_snapshot() -> None:
    nothing = readings(
        contracts=None, supervised=None, drivers=None, checkpoints=None, lags=None, stored=None
    )
    assert platform(nothing).pipelines == ()


def test_pipelines_come_in_the_order_of_their_names() -> None:
    both = readings(contracts={"zebra": applied("zebra"), "orders": applied()})
    assert [item.pipeline for item in platform(both).pipelines] == ["orders", "zebra"]


def test_an_airflow_owner_is_named_by_dag_run_and_task() -> None:
    owner = Owner("airflow", dag_id="stream.orders", run_id="r1", task_id="run_stream")
    assert (
        orders(readings(supervised=_supervised(owner=owner))).ordered_by
        == "airflow:stream.orders/r1/run_stream"
    )


def _swept(kind: str, **changes: Any) -> tuple[str, ...]:
    found = {"orders": SweepFinding(kind, "", status().generation)}
    return orders(readings(supervised=_supervised(**changes), sweep=Sweep(NOW - 40, found))).conditions


def test_a_paused_dag_is_a_condition_of_the_stream() -> None:
    assert _swept("paused") == ("paused in Airflow",)
    assert _swept("unwatched") == ("not watched by its Airflow task",)


def test_what_the_sweep_did_or_could_not_ask_is_no_condition() -> None:
    assert _swept("stop") == _swept("unknown") == ()


def test_a_finding_is_over_when_the_stream_was_stopped_or_ordered_anew() -> None:
    assert _swept("paused", generation=status().generation + 1) == ()
    assert "paused in Airflow" not in _swept("paused", desired=Desired.STOPPED, phase=Phase.STOPPED)
