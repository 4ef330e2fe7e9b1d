"""Conditions beside the phase: how a stream is though its driver lives. Pure but for memory.

    stable             the new epoch has proved itself: so many batches, or quiet for the readiness time
    degraded           it runs, and not all is well: a query down, a service waited for, failures lately
    stalled            no sign of progress, see below; restarted after the contract's `job.stall_restart`
    draining           an order to drain waits for commits
    contract_pending   another contract is applied than the one that runs
    no_way_back        the contract is on trial, and what was before it could not be kept
    silent, report_unreadable, old_version, suspended

A stall is judged by signs of progress, never by the process being there: a query without a commit, an
idle report or any progress for max(3 triggers, 2 × p99 of its batches, 30 s), at its begin two minutes, also
where it begins again. A batch id that falls means a new incarnation and a new baseline, not ill health. While
a batch waits for a service the stall is shown, and the time after which it is a reason to restart has not
begun.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from headgate import __version__
from headgate.streams.model import DriverStatus, Phase, QueryProgress
from headgate.streams.policy import Policy
from headgate.streams.record import StreamRecord

__all__ = ["Conditions", "ProgressWatch", "conditions", "stable", "stall_limit"]

Conditions = dict[str, str]
# A first batch is cold: code is compiled, state is loaded, and nothing is known of its usual length.
_FIRST_BATCH_SECONDS = 120.0
_SILENT_SECONDS = 30.0  # a driver writes its report every 5 s


def stall_limit(trigger_seconds: float, batches: list[float], floor: float = 30.0) -> float:
    """How long a query may show no sign of progress."""
    slow = sorted(batches)[min(int(len(batches) * 0.99), len(batches) - 1)] if batches else 0.0
    return max(3 * trigger_seconds, 2 * slow, floor)


@dataclass(slots=True)
class _QueryMemory:
    batch_id: int = -1
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=200))


class ProgressWatch:
    """Remembers how long the batches of each query take, and since when a stream has been stalled."""

    def __init__(self, floor: float = 30.0) -> None:
        self._floor = floor
        self._queries: dict[tuple[str, str], _QueryMemory] = {}
        self._stalled_since: dict[str, float] = {}
        self._waited: dict[str, float] = {}

    def waited_at(self, stream: str) -> float | None:
        """When a batch of a stream was last seen to wait for a service."""
        return self._waited.get(stream)

    def note(self, report: DriverStatus) -> None:
        for name, query in report.queries.items():
            memory = self._queries.setdefault((report.stream, name), _QueryMemory())
            if query.batch_id != memory.batch_id:
                if query.batch_id > memory.batch_id and query.batch_seconds > 0:
                    memory.seconds.append(query.batch_seconds)
                memory.batch_id = query.batch_id

    def stalled(
        self, record: StreamRecord, report: DriverStatus | None, *, trigger: float, now: float
    ) -> tuple[str, float] | None:
        """The worst query's silence and since when the stall has been seen; None while all is well."""
        if _waits(record, report, now):
            self._waited[record.stream] = now
        found = self._silence(record, report, trigger, now)
        if found is None:
            self._stalled_since.pop(record.stream, None)
            return None
        since = self._stalled_since.setdefault(record.stream, now)
        return found, max(since, self._waited.get(record.stream, since))

    def _silence(
        self, record: StreamRecord, report: DriverStatus | None, trigger: float, now: float
    ) -> str | None:
        if record.phase is not Phase.RUNNING or report is None or report.epoch != record.epoch:
            return None
        for name, query in report.queries.items():
            memory = self._queries.get((record.stream, name), _QueryMemory())
            limit = stall_limit(trigger, list(memory.seconds), self._floor)
            # A query that starts again loads its state again, and its batches are of another size.
            sign, begun = _last_sign(query), max(record.phase_since, query.begun_at or 0.0)
            if sign < begun:
                limit = max(limit, _FIRST_BATCH_SECONDS)
            silent = now - max(sign, begun)
            if silent > limit:
                return f"query {name} has shown no progress for {silent:.0f} s (limit {limit:.0f} s)"
        return None


def conditions(
    record: StreamRecord,
    report: DriverStatus | None,
    *,
    problem: str | None,
    stalled: str | None,
    applied_hash: str | None,
    suspended: bool,
    lost: str = "",
    policy: Policy,
    now: float,
) -> Conditions:
    """What is to be shown beside the phase: name to one sentence. `lost`: why an upgrade has no way back."""
    found: Conditions = {}
    if stalled is not None:
        found["stalled"] = stalled
    if problem is not None:
        found["report_unreadable"] = problem
    if suspended:
        found["suspended"] = "the platform is suspended; the stream starts again on resume"
    if applied_hash is not None and applied_hash != record.contract_hash:
        found["contract_pending"] = (
            f"contract {applied_hash[:12]} is applied, {record.contract_hash[:12]} runs"
        )
    if record.draining and record.drain is not None:
        found["draining"] = f"ordered by {record.drain.by}: it stops when what the topics held is committed"
    if record.upgrade is not None and record.upgrade.undone:
        found["rolled_back"] = record.upgrade.text
    elif record.upgrade is not None and lost:
        found["no_way_back"] = (
            f"contract {record.contract_hash[:12]} is on trial; if it fails the stream parks, as there is "
            f"no way back to {record.upgrade.stable_hash[:12]}: {lost}"
        )
    if record.phase is Phase.RUNNING:
        found.update(_of_the_driver(record, report, now))
        settled = stable(record, report, policy=policy, now=now) if stalled is None else None
        if settled is not None and "degraded" not in found and "silent" not in found:
            found["stable"] = settled
    return found


def stable(record: StreamRecord, report: DriverStatus | None, *, policy: Policy, now: float) -> str | None:
    """Why this epoch counts as stable: each query has committed so many batches, or was idle throughout
    the readiness time; None while it has not proved itself."""
    if report is None or report.epoch != record.epoch or not report.queries:
        return None
    ready = now - record.phase_since >= policy.ready_seconds
    # Idle at its end: what had come before was done with. One that has begun since then is not waited for.
    until = record.phase_since + policy.ready_seconds
    for query in report.queries.values():
        idle = ready and query.last_idle_at is not None and query.last_idle_at >= until
        if not query.active or not (query.batches >= policy.stable_batches or idle):
            return None
    fewest = min(query.batches for query in report.queries.values())
    if fewest >= policy.stable_batches:
        return f"{policy.stable_batches} batches or more of each query since epoch {record.epoch} came up"
    return f"up for {policy.ready_seconds:.0f} s or more without trouble, with little or nothing to read"


def _of_the_driver(record: StreamRecord, report: DriverStatus | None, now: float) -> Conditions:
    if report is None or report.epoch != record.epoch:
        return {"silent": "the driver lives and there is no report of its epoch"}
    found: Conditions = {}
    age = now - report.written_at
    if age > _SILENT_SECONDS:
        found["silent"] = f"the driver lives and has not reported for {age:.0f} s"
    if report.headgate_version != __version__:
        found["old_version"] = f"the driver runs headgate {report.headgate_version}, this is {__version__}"
    if trouble := _trouble(record, report):
        found["degraded"] = "; ".join(trouble)
    return found


def _trouble(record: StreamRecord, report: DriverStatus) -> list[str]:
    found = []
    down = sorted(name for name, query in report.queries.items() if not query.active)
    if down:
        found.append(f"not active: {', '.join(down)}")
    if report.waiting_for:
        found.append(f"a batch waits for {report.waiting_for}")
    if record.failures:
        found.append(f"failures since it last ran well: {len(record.failures)}")
    return found


def _waits(record: StreamRecord, report: DriverStatus | None, now: float) -> bool:
    """Whether a batch waits for a service, by a driver that still reports."""
    if report is None or report.epoch != record.epoch or not report.waiting_for:
        return False
    return now - report.written_at <= _SILENT_SECONDS


def _last_sign(query: QueryProgress) -> float:
    signs = (query.last_commit_at, query.last_progress_at, query.last_idle_at, query.last_task_at)
    return max(sign or 0.0 for sign in signs)
