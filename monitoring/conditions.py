"""What a person must see beside a stream's state, in words. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from headgate.streams.model import Desired, Phase, StreamStatus
from monitoring.readings import Readings, SweepFinding
from monitoring.snapshot import PipelineSnapshot, QuerySnapshot

__all__ = ["FORGOTTEN", "conditions", "swept"]

# Below this a stream is not called stalled, whatever its trigger: batches may just be long.
_STALL_FLOOR = 60.0
FORGOTTEN = "the supervisor does not know a stream that has run"
# What Airflow's sweep found is no longer known when the sweep is this old; ReconcilerSilent takes over.
_SWEEP_SECONDS = 180.0
# The sweep's words, as conditions. The others of its kinds are acts, or say that it could not ask.
_SWEPT = {
    "paused": "paused in Airflow",
    "unwatched": "not watched by its Airflow task",
    "ownerless": "ordered by nobody",
}
# Only the supervisor can know these; the others are found here.
_TOLD = ("suspended", "stalled", "rolled_back", "no_way_back", "draining", "silent", "report_unreadable")


def conditions(
    snapshot: PipelineSnapshot, status: StreamStatus | None, readings: Readings, at: float
) -> Iterator[str]:
    if readings.contracts is not None and snapshot.pipeline not in readings.contracts:
        yield "no contract applied"
    yield from _seen(snapshot)
    yield from _told(status) if status is not None else _stalled(snapshot, at)
    yield from _blind(snapshot, readings)


def swept(status: StreamStatus | None, readings: Readings, at: float) -> str | None:
    """What the sweep says of a stream that has not been ordered anew since; None when that is not known."""
    if status is None or readings.sweep is None or at - readings.sweep.at > _SWEEP_SECONDS:
        return None
    nothing = SweepFinding("", "", status.generation)
    finding = readings.sweep.found.get(status.stream, nothing)
    live = status.desired is Desired.RUNNING and status.phase is not Phase.PARKED
    fits = live and finding.generation == status.generation
    return finding.kind if fits and finding.kind in _SWEPT else ""


def _seen(snapshot: PipelineSnapshot) -> Iterable[str]:
    wanted = snapshot.desired == Desired.RUNNING
    if snapshot.forgotten:
        yield FORGOTTEN
    if snapshot.contract_pending:
        yield "contract pending"
    if snapshot.outdated:
        yield f"driver runs headgate {snapshot.driver_version}"
    if snapshot.airflow_finding:
        yield _SWEPT[snapshot.airflow_finding]
    if wanted and snapshot.driver_alive is False and snapshot.state == Phase.RUNNING:
        yield "driver gone"
    for query in snapshot.queries:
        if snapshot.driver_alive and query.active is False:
            yield f"query {query.query} is not running"


def _told(status: StreamStatus) -> Iterable[str]:
    """In the supervisor's words."""
    known = dict(status.conditions)
    if "stalled" in known:
        known["stalled"] = f"stalled: {known['stalled']}"
    return [known[name] for name in _TOLD if name in known]


def _stalled(snapshot: PipelineSnapshot, at: float) -> Iterable[str]:
    """While the supervisor does not answer, who knows what is idle and what has just begun."""
    if snapshot.driver_alive:
        for query in snapshot.queries:
            if _is_stalled(query, snapshot.trigger, at):
                yield f"query {query.query} is stalled"


def _is_stalled(query: QuerySnapshot, trigger: float | None, at: float) -> bool:
    """Records wait, and for three triggers and at least a minute they have, nothing was committed and no task
    finished."""
    limit = max(3 * (trigger or 0), _STALL_FLOOR)
    if not query.lag_records or query.last_commit_at is None or (query.lag_seconds or limit) < limit:
        return False
    return at - max(query.last_commit_at, query.last_task_at or 0.0) > limit


def _blind(snapshot: PipelineSnapshot, readings: Readings) -> Iterable[str]:
    if readings.lags is None or (snapshot.batch_id is not None and snapshot.lag_records is None):
        yield "lag unknown"
    if readings.checkpoints is None or snapshot.pipeline not in readings.checkpoints:
        yield "checkpoints unknown"
    if readings.stored is None and snapshot.quality_every is not None:
        yield "verdict unknown"
