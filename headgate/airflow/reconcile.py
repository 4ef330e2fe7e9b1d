"""The sweep for what `on_kill` misses: a pure plan, and the few calls that carry it out.

A triggerer that was down when a task was marked, or a deleted DAG run, leaves a driver that nobody
watches. Once a minute every stream that Airflow owns is compared with its owner's task instance.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.airflow.decisions import stops
from headgate.airflow.stopping import GONE, STOP_SECONDS
from headgate.errors import NotFoundError, RefusedError
from headgate.streams.model import Owner, Phase, StreamStatus

if TYPE_CHECKING:
    from headgate.streams.client import SupervisorClient

__all__ = [
    "HEARTBEAT_FILE",
    "Action",
    "Kind",
    "TaskView",
    "airflow_owners",
    "carry_out",
    "plan_reconcile",
    "write_heartbeat",
]

HEARTBEAT_FILE = "reconcile.json"  # below the state folder; the exporter can alert on its age
ACTOR = "airflow:headgate.reconcile"

_LIVE = frozenset({Phase.STARTING, Phase.RUNNING, Phase.BACKOFF})
# The task was in the hands of a worker when it ended, so Airflow itself may have failed it.
_IN_A_WORKER = frozenset({"ordering", "resuming"})


class Kind(StrEnum):
    STOP = "stop"
    OWNERLESS = "ownerless"
    UNWATCHED = "unwatched"
    PAUSED = "paused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TaskView:
    """The owner's task instance: its state, GONE, or `known` False when Airflow could not be asked."""

    state: str | None = None
    watch: str | None = None  # the XCom of RunStreamOperator: where the task was last
    known: bool = True


@dataclass(frozen=True, slots=True)
class Action:
    kind: Kind
    stream: str
    reason: str
    owner: Owner | None = None
    generation: int = 0


def airflow_owners(streams: Iterable[StreamStatus]) -> list[Owner]:
    """Whose task instances must be known for a plan."""
    return [s.owner for s in streams if s.phase in _LIVE and s.owner and s.owner.kind == "airflow"]


def plan_reconcile(
    streams: Sequence[StreamStatus], tasks: Mapping[Owner, TaskView], paused: Mapping[str, bool]
) -> list[Action]:
    """Only a live stream whose Airflow owner is final or gone is stopped; the rest is reported.

    A parked stream is left as it is: its reason is what people look for.
    """
    actions = []
    for status in streams:
        if status.phase not in _LIVE:
            continue
        if status.owner is None:
            actions.append(_report(Kind.OWNERLESS, status, "runs and nobody ordered it; it is left alone"))
        elif status.owner.kind == "airflow":
            task = tasks.get(status.owner, TaskView(known=False))
            actions += _for_owner(status, status.owner, task, paused)
    return actions


def _for_owner(
    status: StreamStatus, owner: Owner, task: TaskView, paused: Mapping[str, bool]
) -> list[Action]:
    if not task.known:
        return [_report(Kind.UNKNOWN, status, f"Airflow could not be asked about {owner.label}; left alone")]
    if task.state == GONE:
        return [_stop(status, "its task instance or DAG run was deleted")]
    if unwatched := _unwatched(owner, task):
        return [_report(Kind.UNWATCHED, status, f"runs and is not watched; {unwatched}, or stop it")]
    if stops(task.state):
        return [_stop(status, f"its task instance is {task.state}")]
    if paused.get(owner.dag_id):
        text = f"runs while its DAG {owner.dag_id} is paused: the end of the stream would not be shown"
        return [_report(Kind.PAUSED, status, text)]
    return []


def _unwatched(owner: Owner, task: TaskView) -> str:
    """Why the task is over without a person's wish to end the stream; empty when it is not so."""
    if task.state == "upstream_failed":
        return f"its DAG run was cleared and a step before its task failed: clear {owner.dag_id} again"
    if task.state == "failed" and task.watch in _IN_A_WORKER:
        return f"its task failed while {task.watch}, which may be Airflow's doing: clear {owner.label}"
    return ""


def _stop(status: StreamStatus, reason: str) -> Action:
    return Action(Kind.STOP, status.stream, reason, status.owner, status.generation)


def _report(kind: Kind, status: StreamStatus, reason: str) -> Action:
    return Action(kind, status.stream, reason, status.owner, status.generation)


def carry_out(actions: Sequence[Action], client: SupervisorClient, say: Callable[..., Any]) -> list[Action]:
    """Stop what is to be stopped, fenced by owner and generation; the actions that were taken."""
    done = []
    for action in actions:
        if action.kind is not Kind.STOP:
            say("%s %s", action.stream, action.reason)
            continue
        try:
            client.stop(
                action.stream,
                actor=ACTOR,
                reason=action.reason,
                owner=action.owner,
                generation=action.generation,
                mode="graceful",
                deadline_seconds=STOP_SECONDS,
            )
        except (RefusedError, NotFoundError) as error:
            say("%s was not stopped, it changed meanwhile: %s", action.stream, error)
            continue
        say("%s: stop ordered, %s", action.stream, action.reason)
        done.append(action)
    return done


def write_heartbeat(state: Path, checked: int, actions: Sequence[Action]) -> None:
    """When the last sweep ended and what it found, replaced atomically."""
    state.mkdir(parents=True, exist_ok=True)
    found = [{**asdict(action), "kind": str(action.kind)} for action in actions]
    draft = state / f".{HEARTBEAT_FILE}.{os.getpid()}"
    draft.write_text(json.dumps({"at": time.time(), "streams": checked, "found": found}), encoding="utf-8")
    draft.replace(state / HEARTBEAT_FILE)
