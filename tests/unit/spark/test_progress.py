"""What Spark tells of a query's runs: each event counts for the run that it is of."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from driver_report import status_file

from headgate.batches.caps import Ended, Told
from spark.progress import ProgressListener


class World:
    def __init__(self, folder: Path) -> None:
        self.told: list[tuple[str, Told]] = []
        self.idle: list[str] = []
        self.batches: list[Ended] = []
        nothing: Any = lambda *_: None  # noqa: E731
        metrics: Any = SimpleNamespace(
            progress=nothing,
            batch=lambda _, ended: self.batches.append(ended),
            idle=lambda name, _: self.idle.append(name),
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
