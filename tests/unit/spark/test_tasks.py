"""Signs of life inside a batch, against a stand-in for Spark's status tracker."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from headgate import __version__
from headgate.streams.model import DriverStatus, QueryProgress
from spark.progress import StatusFile
from spark.tasks import TaskWatch

QUERIES = {"records": SimpleNamespace(runId="run-1"), "counts": SimpleNamespace(runId="run-2")}


class Tracker:
    """Jobs by group, stages by job, and how many of a stage's tasks are done."""

    def __init__(self) -> None:
        self.groups: dict[str, list[int]] = {"run-1": [1], "run-2": [2]}
        self.stages: dict[int, list[int]] = {1: [10], 2: [20]}
        self.done: dict[int, int] = {10: 0, 20: 0}
        self.asked = 0

    def getActiveJobsIds(self) -> list[int]:
        self.asked += 1
        return list(self.stages)

    def getJobIdsForGroup(self, group: str) -> list[int]:
        return self.groups[group]

    def getJobInfo(self, job: int) -> SimpleNamespace:
        return SimpleNamespace(stageIds=self.stages[job])

    def getStageInfo(self, stage: int) -> SimpleNamespace | None:
        if stage not in self.done:
            return None
        return SimpleNamespace(currentAttemptId=0, numActiveTasks=1, numCompletedTasks=self.done[stage])


@pytest.fixture
def status(tmp_path: Path) -> StatusFile:
    quiet = {name: QueryProgress(last_commit_at=100.0) for name in QUERIES}
    told = DriverStatus(
        stream="s",
        pipeline="s",
        epoch=1,
        generation=1,
        contract_hash="c",
        lineage="l",
        headgate_version=__version__,
        pid=1,
        phase="running",
        written_at=0.0,
        queries=quiet,
    )
    return StatusFile(tmp_path / "status.json", told)


def last_task(status: StatusFile, query: str) -> float | None:
    return status.status.queries[query].last_task_at


def test_a_task_that_finishes_is_a_sign_of_its_own_query_alone(status: StatusFile) -> None:
    tracker = Tracker()
    watch = TaskWatch(tracker, status, lambda *_: None)
    watch.look(QUERIES, 110.0)
    assert last_task(status, "records") is None, "none has finished yet"
    tracker.done[10] = 1
    watch.look(QUERIES, 113.0)
    assert (last_task(status, "records"), last_task(status, "counts")) == (113.0, None)
    watch.look(QUERIES, 116.0)
    assert last_task(status, "records") == 113.0, "a task that runs on is no sign"


def test_a_stage_that_is_over_has_finished_its_last_task(status: StatusFile) -> None:
    tracker = Tracker()
    watch = TaskWatch(tracker, status, lambda *_: None)
    watch.look(QUERIES, 110.0)
    tracker.stages[1], tracker.done = [11], {11: 0, 20: 0}
    watch.look(QUERIES, 113.0)
    assert last_task(status, "records") == 113.0


def test_spark_is_asked_seldom_and_not_about_queries_that_commit(status: StatusFile) -> None:
    tracker = Tracker()
    watch = TaskWatch(tracker, status, lambda *_: None)
    watch.look(QUERIES, 103.0)
    assert tracker.asked == 0
    watch.look(QUERIES, 104.9)
    watch.look(QUERIES, 110.0)
    watch.look(QUERIES, 111.0)
    assert tracker.asked == len(QUERIES)


def test_a_query_that_starts_again_has_finished_no_task_by_that(status: StatusFile) -> None:
    tracker = Tracker()
    tracker.done[10] = 1
    watch = TaskWatch(tracker, status, lambda *_: None)
    watch.look(QUERIES, 110.0)
    assert last_task(status, "records") == 110.0
    tracker.groups["run-3"] = [3]
    tracker.stages, tracker.done = {2: [20], 3: [30]}, {20: 0, 30: 0}
    again = {**QUERIES, "records": SimpleNamespace(runId="run-3")}
    watch.look(again, 113.0)
    assert last_task(status, "records") == 110.0
    tracker.done[30] = 1
    watch.look(again, 116.0)
    assert last_task(status, "records") == 116.0
