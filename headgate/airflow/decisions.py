"""What a stream's status means to the task that waits for it: pure functions of a StreamStatus.

Trigger and resume method both ask `decide`. It needs no Airflow, so every row of the table is a unit
test. The owner decides, not the generation: a CLI restart keeps the owner and raises the generation,
and the waiting task follows; another owner's order ends the wait.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from headgate.streams.model import Desired, Owner, Phase, StreamStatus

__all__ = [
    "FINAL_STATES",
    "STOPPING_STATES",
    "Decision",
    "Outcome",
    "ask_again",
    "decide",
    "first_commit",
    "is_final",
    "progress_line",
    "snapshot",
    "stops",
]

# A task instance in one of these states is over. `deferred`, `scheduled`, `queued`, `running` and no
# state at all may be a newer attempt of the same task: only the generation could tell.
FINAL_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
# A person's wish, or the end of the task. `upstream_failed` is neither: somebody cleared the whole run and a
# step before the task failed, while the stream runs as it did.
STOPPING_STATES = FINAL_STATES - {"upstream_failed"}


class Outcome(StrEnum):
    """Shared by trigger, log and resume method."""

    WATCH = "watch"
    PARKED = "parked"
    STOPPED = "stopped"
    RETIRED = "retired"
    SUPERSEDED = "superseded"
    EXITED = "exited"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, the generation that is now waited for, and the reason in one or two sentences."""

    outcome: Outcome
    generation: int
    text: str = ""
    failure_class: str = ""
    runbook: str = ""

    @property
    def ends(self) -> bool:
        return self.outcome is not Outcome.WATCH

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "outcome": str(self.outcome)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Decision:
        return cls(**{**data, "outcome": Outcome(data["outcome"])})


def is_final(state: str | None) -> bool:
    return state in FINAL_STATES


def stops(state: str | None) -> bool:
    """Whether a task instance in this state is a reason to stop its stream."""
    return state in STOPPING_STATES


def decide(status: StreamStatus, generation: int, owner: Owner) -> Decision:
    """What the task of `owner`, which waits for `generation`, does about this status."""
    if status.owner != owner:
        return Decision(Outcome.SUPERSEDED, generation, _superseded(status), runbook="StreamDown")
    now = max(generation, status.generation)
    failure = str(status.failure_class or "")
    if status.phase is Phase.PARKED:
        return Decision(Outcome.PARKED, now, _parked(status), failure, "StreamDown")
    if status.phase is Phase.RETIRED:
        return Decision(Outcome.RETIRED, now, f"{status.stream} was retired{_by(status)}")
    if status.phase is Phase.STOPPED and status.desired is Desired.STOPPED:
        if status.stopped_by:
            return Decision(Outcome.STOPPED, now, f"{status.stream} was stopped{_by(status)}")
        return Decision(Outcome.EXITED, now, _exited(status), failure, "StreamDown")
    return Decision(Outcome.WATCH, now)


def first_commit(
    status: StreamStatus, owner: Owner, queries: Collection[str], patience: float = 60.0
) -> bool:
    """Has the run of `owner` committed: each of `queries` once, or one and the others not for `patience`?

    The run counts, not the try: a restart by CLI or by clearing `run_stream` alone keeps it.
    """
    if status.owner is None or _run(status.owner) != _run(owner):
        return False
    driver = status.driver
    if driver is None or driver.generation != status.generation or driver.epoch != status.epoch:
        return False
    done = {name: query.last_commit_at for name, query in driver.queries.items() if query.last_commit_at}
    if not done:
        return False
    return set(queries) <= set(done) or driver.written_at - min(done.values()) >= patience


def ask_again(status: StreamStatus) -> str:
    """Why the supervisor is trying again, for the task's log; empty while all is well."""
    if status.phase is not Phase.BACKOFF:
        return ""
    when = f", next attempt at {_clock(status.next_attempt_at)}" if status.next_attempt_at else ""
    cause = status.reason or "no reason given"
    return (
        f"the driver of {status.stream} ended ({status.failure_class or 'unknown'}): {cause}; "
        f"{status.consecutive_failures} in a row{when}. The supervisor restarts it"
    )


def progress_line(status: StreamStatus) -> str:
    """One line for people: phase, generation, epoch, then what each query last did."""
    parts = [f"{status.stream} {status.phase}", f"generation {status.generation}", f"epoch {status.epoch}"]
    if status.driver is not None and status.driver.epoch == status.epoch:
        for name, query in sorted(status.driver.queries.items()):
            commit = _clock(query.last_commit_at) if query.last_commit_at else "none yet"
            parts.append(
                f"{name}: batch {query.batch_id}, {query.rows_per_second:.0f} rows/s, last commit {commit}"
            )
    if status.restarts:
        parts.append(f"{status.restarts} restarts")
    parts += [f"{name}: {text}" for name, text in sorted(status.conditions.items())]
    return " · ".join(parts)


def snapshot(status: StreamStatus) -> dict[str, Any]:
    """The progress as an XCom: small, JSON, and nothing secret."""
    driver = status.driver if status.driver and status.driver.epoch == status.epoch else None
    queries = driver.queries if driver else {}
    return {
        "phase": str(status.phase),
        "generation": status.generation,
        "epoch": status.epoch,
        "contract": status.contract_hash[:12],
        "restarts": status.restarts,
        "consecutive_failures": status.consecutive_failures,
        "reason": status.reason[:500],
        "conditions": dict(status.conditions),
        "ui_url": driver.ui_url if driver else None,
        "queries": {
            name: {
                "batch": query.batch_id,
                "rows_per_second": round(query.rows_per_second, 1),
                "batch_seconds": round(query.batch_seconds, 3),
                "last_commit": _clock(query.last_commit_at) if query.last_commit_at else None,
            }
            for name, query in sorted(queries.items())
        },
    }


def _run(owner: Owner) -> tuple[str, str, str, str]:
    return owner.kind, owner.dag_id, owner.run_id, owner.task_id


def _by(status: StreamStatus) -> str:
    who = status.stopped_by or "someone who did not leave a name"
    if not status.reason:
        return f" by {who}"
    # After the stop the supervisor's reason begins with who and why, and adds how the driver ended.
    return f" by {status.reason}" if status.reason.startswith(who) else f" by {who}; {status.reason}"


def _superseded(status: StreamStatus) -> str:
    who = status.owner.label if status.owner else "nobody"
    return (
        f"{status.stream} now belongs to {who} (generation {status.generation}, {status.phase}): "
        f"this task gave it up and touches it no more"
    )


def _parked(status: StreamStatus) -> str:
    kind = status.failure_class or "unknown"
    return f"{status.stream} is parked ({kind}): {status.reason or 'the supervisor gave no reason'}"


def _exited(status: StreamStatus) -> str:
    return (
        f"{status.stream} has ended and nobody asked for that "
        f"({status.reason or 'no reason given'}): a stream never ends by itself"
    )


def _clock(at: float | None) -> str:
    return datetime.fromtimestamp(at or 0, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
