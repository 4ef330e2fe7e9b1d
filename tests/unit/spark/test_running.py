"""Queries that start again with another cap: between two batches, once, and never over a failure."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from spark.running import RunningQueries
from spark.stop import StopRequestedError


class Query:
    """Stands for Spark's. `busy` has a batch under way."""

    def __init__(self, number: int, names: Mapping[str, str]) -> None:
        self.id, self.runId = "q", f"run{number}"
        self._names = names
        self.owned_at_stop = False
        self.isActive, self.busy = True, False
        self.error: Exception | None = None
        self.stopped_busy = False

    @property
    def status(self) -> dict[str, bool]:
        return {"isTriggerActive": self.busy}

    def stop(self) -> None:
        self.stopped_busy = self.stopped_busy or (self.isActive and self.busy)
        self.owned_at_stop = self.runId in self._names
        self.isActive = False

    def exception(self) -> Exception | None:
        return self.error


class Caps:
    def __init__(self) -> None:
        self.cap = 1_000
        self.wanted: int | None = None
        self.over: list[str] = []

    def of(self, _query: str) -> Mapping[str, int]:
        return {"a": self.cap}

    def due(self, _query: str) -> Mapping[str, int] | None:
        return {"a": self.wanted} if self.wanted not in (None, self.cap) else None  # type: ignore[dict-item]

    def take(self, _query: str, caps: Mapping[str, int], run: str) -> None:
        self.cap = caps["a"]
        self.over.append(run)


class World:
    def __init__(self) -> None:
        self.made: list[tuple[Query, int]] = []
        self.caps: Any = Caps()
        self.names: dict[str, str] = {}
        self.told: list[str] = []
        self.lost: list[str] = []
        self.failure: Exception | None = None  # of the next start
        told: Any = SimpleNamespace(started=self.told.append, lost=self.lost.append)
        self.running = RunningQueries({"q": self._begin}, self.caps, self.names, told)
        self.running.start()

    def _begin(self) -> Any:
        assert not any(query.isActive for query, _ in self.made), "a checkpoint has one query"
        if self.failure is not None:
            raise self.failure
        self.made.append((Query(len(self.made), self.names), self.caps.cap))
        return self.made[-1][0]

    @property
    def query(self) -> Query:
        return self.made[-1][0]


def test_a_query_whose_cap_is_right_runs_on():
    world = World()
    for _ in range(5):
        world.running.look()
        world.running.before_batch("q")
    assert len(world.made) == 1
    assert world.query.isActive


def test_a_query_that_waits_for_its_trigger_is_stopped_and_starts_with_the_new_cap():
    world = World()
    world.caps.wanted = 10
    for _ in range(3):
        world.running.look()
    assert [cap for _, cap in world.made] == [1_000, 10]
    assert world.running.queries["q"] is world.query
    assert world.names == {"q": "q", "run1": "q"}, "the end of the first run is nobody's"
    assert not world.made[0][0].owned_at_stop, "Spark may tell of the end while it is being stopped"
    assert world.lost == []
    assert world.told == ["q", "q"]
    assert world.caps.over == ["run0"]
    assert world.running.restarting is None
    assert not world.running.under_way("q")


def test_a_batch_that_runs_is_left_to_its_end_and_the_next_one_is_refused():
    world = World()
    first = world.query
    first.busy = True
    world.caps.wanted = 10
    for _ in range(3):
        world.running.look()
    assert first.isActive
    assert world.running.under_way("q")
    with pytest.raises(StopRequestedError):
        world.running.before_batch("q")
    assert first.runId not in world.names, "its end would be told as that of the query"
    first.isActive, first.error = False, RuntimeError("Spark wraps what was raised")
    world.running.look()
    assert [cap for _, cap in world.made] == [1_000, 10]
    assert not first.stopped_busy
    world.running.before_batch("q")


def test_a_query_that_fails_meanwhile_is_not_started_over_its_failure():
    world = World()
    world.query.busy = True
    world.caps.wanted = 10
    world.running.look()
    world.query.isActive, world.query.error = False, RuntimeError("offsets are gone")
    world.running.look()
    assert len(world.made) == 1
    assert not world.running.under_way("q")


def test_a_batch_that_was_waited_for_may_make_another_cap_needless():
    world = World()
    world.query.busy = True
    world.caps.wanted = 10
    world.running.look()
    world.query.busy, world.caps.wanted = False, None
    world.running.look()
    assert len(world.made) == 1
    assert world.query.isActive
    assert not world.running.under_way("q")
    world.running.before_batch("q")


def test_a_query_whose_next_batch_was_refused_starts_again_also_with_the_cap_that_it_had():
    world = World()
    world.query.busy = True
    world.caps.wanted = 10
    world.running.look()
    with pytest.raises(StopRequestedError):
        world.running.before_batch("q")
    world.query.busy, world.caps.wanted = False, None
    world.running.look()
    assert [cap for _, cap in world.made] == [1_000, 1_000]
    assert world.caps.over == []
    assert world.query.isActive


def test_a_query_that_cannot_start_again_is_named():
    world = World()
    world.caps.wanted = 10
    world.failure = OSError("the checkpoint cannot be read")
    with pytest.raises(OSError, match="checkpoint"):
        for _ in range(3):
            world.running.look()
    assert world.running.restarting == "q"
    assert world.lost == ["q"], "the end of its last run was told to nobody"
    assert not world.running.under_way("q"), "that it has ended is not what was asked of it any more"
