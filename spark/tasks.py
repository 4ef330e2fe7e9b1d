"""Signs of life inside a long batch: which query's tasks finish, so that a batch of ten minutes is no stall.

A listener would call Python for every task. Instead Spark's own counters are asked, every few seconds and
only about a query that has been quiet for a while and has a batch under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headgate.streams.model import QueryProgress

if TYPE_CHECKING:
    from spark.progress import StatusFile

__all__ = ["TaskWatch"]

_QUIET_SECONDS = 5.0
_EVERY_SECONDS = 2.0

# Stage and attempt to the number of its tasks that are done.
Counts = dict[tuple[int, int], int]


class TaskWatch:
    """`tracker` is Spark's status tracker. A batch's jobs carry its query's run id as their group."""

    def __init__(self, tracker: Any, status: StatusFile, told: Callable[[str, float], None]) -> None:
        self._tracker = tracker
        self._status = status
        self._told = told
        self._counts: dict[str, Counts] = {}  # by run: one that starts again has finished nothing by that
        self._next = 0.0

    def look(self, queries: Mapping[str, Any], now: float) -> None:
        """Note for each query that is busy and quiet whether a task has finished since the last look."""
        if now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        for name, query in queries.items():
            run = str(query.runId)
            if now - _last_sign(self._status.status.queries.get(name)) < _QUIET_SECONDS:
                self._counts.pop(run, None)
            elif self._finished(run):
                self._status.query(name, lambda before: replace(before, last_task_at=now))
                self._told(name, now)

    def _finished(self, run: str) -> bool:
        before, counts = self._counts.get(run), self._count(run)
        self._counts[run] = counts
        if before is None:
            return any(counts.values())
        # A stage that is not among those of an active job any more has finished its last task.
        return any(counts.get(stage, done + 1) > done for stage, done in before.items()) or any(
            done for stage, done in counts.items() if stage not in before
        )

    def _count(self, run_id: str) -> Counts:
        active = set(self._tracker.getActiveJobsIds())
        jobs = active.intersection(self._tracker.getJobIdsForGroup(run_id)) if active else ()
        found: Counts = {}
        for job in jobs:
            info = self._tracker.getJobInfo(job)
            for stage_id in info.stageIds if info else ():
                stage = self._tracker.getStageInfo(stage_id)
                if stage is not None:
                    found[stage_id, stage.currentAttemptId] = stage.numCompletedTasks
        return found


def _last_sign(query: QueryProgress | None) -> float:
    """Of anything but tasks: they are looked at again and again while nothing else is heard."""
    if query is None:
        return 0.0
    signs = (query.last_commit_at, query.last_progress_at, query.last_idle_at)
    return max(sign or 0.0 for sign in signs)
