"""What Spark tells of a query's runs: each event counts for the run that it is of."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from driver_report import status_file
from two_lanes import frozen_of

from headgate.batches.caps import Ended, Told
from spark.metrics import DriverMetrics
from spark.progress import ProgressListener


class World:
    def __init__(self, folder: Path) -> None:
        self.told: list[tuple[str, Told]] = []
        self.idle: list[str] = []
        self.batches: list[Ended] = []
        self.active: list[tuple[str, bool]] = []
        nothing: Any = lambda *_: None  # noqa: E731
        metrics: Any = SimpleNamespace(
            progress=nothing,
            batch=lambda _, ended: self.batches.append(ended),
            idle=lambda name, _: self.idle.append(name),
            begun=lambda name: self.active.append((name, True)),
            ended=lambda name: self.active.append((name, False)),
        )
        self.status = status_file(folder / "status.json")
        names = {"q1": "o", "run2": "o"}  # the run before was run1
        self.listener = ProgressListener(names, self.status, metrics, self._ended)

    def _ended(self, name: str, told: Told) -> Ended:
        self.told.append((name, told))
        return Ended(7, 70)


def progress(**changes: Any) -> Any:
    source = {"startOffset": {"t": {"0": 5}}, "endOffset": {"t": {"0": 9}}, "numInputRows": 4}
    told = {
        "id": "q1",
        "runId": "run1",
        "batchId": 3,
        "timestamp": "2026-01-02T03:04:05.678Z",
        "durationMs": {"triggerExecution": 1500},
        "sources": [source],
        "stateOperators": [{"numRowsTotal": 2, "memoryUsedBytes": 800}],
        **changes,
    }
    return SimpleNamespace(progress=lambda: SimpleNamespace(json=lambda: json.dumps(told)))


def test_a_batch_is_told_with_its_own_run_also_when_another_one_has_begun(tmp_path):
    world = World(tmp_path)
    world.listener.onQueryProgress(progress())
    world.listener.onQueryProgress(progress(runId="run2", batchId=4))
    assert world.told == [
        ("o", Told("run1", 3, {"t": 4}, 1.5, 800)),
        ("o", Told("run2", 4, {"t": 4}, 1.5, 800)),
    ]
    assert world.batches == [Ended(7, 70)] * 2
    assert world.status.status.queries["o"].batches == 2


def test_a_batch_that_has_waited_for_a_service_says_so_and_the_next_one_does_not(tmp_path):
    world = World(tmp_path)
    world.status.waiting("Redis: away")
    world.listener.onQueryProgress(progress())
    world.status.waiting(None)
    world.listener.onQueryProgress(progress())
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    world.listener.onQueryProgress(progress(timestamp=soon))
    assert [told.waited for _, told in world.told] == [True, True, False]


@pytest.mark.parametrize(("run", "expected"), [("run2", ["o"]), ("run1", [])])
def test_that_an_earlier_run_was_idle_is_no_sign_of_the_one_that_runs(tmp_path, run, expected):
    world = World(tmp_path)
    event: Any = SimpleNamespace(runId=lambda: SimpleNamespace(toString=lambda: run))
    world.listener.onQueryIdle(event)
    assert world.idle == expected
    assert list(world.status.status.queries) == expected


def _terminated(run: str) -> Any:
    return SimpleNamespace(runId=lambda: SimpleNamespace(toString=lambda: run))


def test_a_query_is_down_with_its_own_run_and_not_with_an_earlier_one(tmp_path):
    world = World(tmp_path)
    world.listener.started("o")
    world.listener.onQueryTerminated(_terminated("run1"))
    assert world.status.status.queries["o"].active
    world.listener.onQueryTerminated(_terminated("run2"))
    assert not world.status.status.queries["o"].active
    assert world.active == [("o", True), ("o", False)]


def test_starts_of_a_query_are_counted_each_for_itself():
    frozen: Any = frozen_of(
        {"topic": "t", "columns": [{"name": "id", "type": "long"}]},
        {"o": {"sql": "SELECT id FROM a", "to": [{"redis": "o"}]}},
        {"o": {}},
    )
    metrics = DriverMetrics(frozen, ["records", "o"], "4")
    for query in ("o", "records", "o"):
        metrics.begun(query)
    metrics.ended("o")
    found = {
        (sample.name, sample.labels["query"]): sample.value
        for family in metrics._registry.collect()
        for sample in family.samples
        if sample.name in {"headgate_query_starts_total", "headgate_query_active"}
    }
    assert found == {
        ("headgate_query_starts_total", "o"): 2,
        ("headgate_query_starts_total", "records"): 1,
        ("headgate_query_active", "o"): 0,
        ("headgate_query_active", "records"): 1,
    }
