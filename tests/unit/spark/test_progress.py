"""What Spark tells of a query's runs: each event counts for the run that it is of."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.batches.caps import Ended, Told
from headgate.streams.model import QueryProgress
from spark.progress import ProgressListener


class Status:
    def __init__(self) -> None:
        self.queries: dict[str, QueryProgress] = {}

    @property
    def status(self) -> Status:
        return self

    def query(self, name: str, change: Any) -> None:
        self.queries[name] = change(self.queries.get(name, QueryProgress()))


class World:
    def __init__(self) -> None:
        self.told: list[tuple[str, Told]] = []
        self.idle: list[str] = []
        self.batches: list[Ended] = []
        nothing: Any = lambda *_: None  # noqa: E731
        metrics: Any = SimpleNamespace(
            progress=nothing,
            batch=lambda _, ended: self.batches.append(ended),
            idle=lambda name, _: self.idle.append(name),
        )
        self.status: Any = Status()
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
        "durationMs": {"triggerExecution": 1500},
        "sources": [source],
        "stateOperators": [{"numRowsTotal": 2, "memoryUsedBytes": 800}],
        **changes,
    }
    return SimpleNamespace(progress=lambda: SimpleNamespace(json=lambda: json.dumps(told)))


def test_a_batch_is_told_with_its_own_run_also_when_another_one_has_begun():
    world = World()
    world.listener.onQueryProgress(progress())
    world.listener.onQueryProgress(progress(runId="run2", batchId=4))
    assert world.told == [
        ("o", Told("run1", 3, {"t": 4}, 1.5, 800)),
        ("o", Told("run2", 4, {"t": 4}, 1.5, 800)),
    ]
    assert world.batches == [Ended(7, 70)] * 2
    assert world.status.queries["o"].batches == 2


@pytest.mark.parametrize(("run", "expected"), [("run2", ["o"]), ("run1", [])])
def test_that_an_earlier_run_was_idle_is_no_sign_of_the_one_that_runs(run, expected):
    world = World()
    event: Any = SimpleNamespace(runId=lambda: SimpleNamespace(toString=lambda: run))
    world.listener.onQueryIdle(event)
    assert world.idle == expected
    assert list(world.status.queries) == expected
