"""The phases of a stream and the only ways between them, as data.

    from       to         cause               by
    stopped    starting   ordered, resumed    person, airflow, supervisor
    starting   running    up                  driver
    starting   backoff    failed              driver
    running    backoff    failed              driver
    stopping   backoff    unhealthy           supervisor
    backoff    starting   timer, ordered      supervisor, person, airflow
    any live   stopping   ordered, replaced … person, airflow, supervisor
    stopping   stopped    ended               driver, supervisor
    stopping   starting   ordered, resumed    person, airflow, supervisor
    stopped    retired    retired             person
    retired    stopped    applied             supervisor: its contract was applied anew
    …          parked     failed, unhealthy   driver, supervisor
    …          backoff    preflight           supervisor: what it looks at does not answer
    …          parked     preflight           supervisor: it refuses the start
    parked     starting   ordered             person, airflow

A phase says what the supervisor does about a stream; what is wrong beside that is a condition.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from headgate.errors import HeadgateError
from headgate.streams.model import Event, Phase
from headgate.streams.record import StreamRecord

__all__ = ["TRANSITIONS", "Actor", "Cause", "IllegalTransition", "Transition", "actor_kind", "move"]


class Cause(StrEnum):
    ORDERED = "ordered"
    RESUMED = "resumed"
    SUSPENDED = "suspended"
    REPLACED = "replaced"
    UP = "up"
    FAILED = "failed"
    UNHEALTHY = "unhealthy"
    TIMER = "timer"
    ENDED = "ended"
    STRAY = "stray"
    CLAIMED = "claimed by another supervisor"
    ELSEWHERE = "out of sight"
    RETIRED = "retired"
    PREFLIGHT = "preflight"
    APPLIED = "applied"


class Actor(StrEnum):
    PERSON = "person"
    AIRFLOW = "airflow"
    SUPERVISOR = "supervisor"
    DRIVER = "driver"


@dataclass(frozen=True, slots=True)
class Transition:
    source: Phase
    target: Phase
    cause: Cause
    actors: frozenset[Actor]


class IllegalTransition(HeadgateError):
    """The table has no such way; the record stays as it is."""


_ANYONE = frozenset({Actor.PERSON, Actor.AIRFLOW})
_SELF = frozenset({Actor.SUPERVISOR})
_DRIVER = frozenset({Actor.DRIVER})
_ALL = _ANYONE | _SELF
_P = Phase
_BEFORE_A_START = (_P.STOPPED, _P.BACKOFF, _P.PARKED, _P.STARTING, _P.RUNNING, _P.STOPPING)
_TABLE: tuple[tuple[tuple[Phase, ...], Phase, Cause, frozenset[Actor]], ...] = (
    ((_P.STOPPED, _P.BACKOFF, _P.PARKED, _P.STOPPING), _P.STARTING, Cause.ORDERED, _ANYONE),
    ((_P.STARTING, _P.RUNNING), _P.STARTING, Cause.ORDERED, _ANYONE),
    ((_P.STOPPED, _P.STOPPING), _P.STARTING, Cause.RESUMED, _SELF),
    ((_P.BACKOFF,), _P.STARTING, Cause.TIMER, _SELF),
    ((_P.STARTING,), _P.RUNNING, Cause.UP, _DRIVER),
    ((_P.STARTING, _P.RUNNING), _P.BACKOFF, Cause.FAILED, _DRIVER),
    ((_P.STARTING, _P.RUNNING), _P.PARKED, Cause.FAILED, _DRIVER),
    ((_P.STOPPING,), _P.BACKOFF, Cause.UNHEALTHY, _SELF),
    ((_P.STOPPING,), _P.PARKED, Cause.UNHEALTHY, _SELF),
    ((_P.STARTING, _P.RUNNING), _P.STOPPING, Cause.ORDERED, _ANYONE),
    ((_P.STARTING, _P.RUNNING), _P.STOPPING, Cause.REPLACED, _ANYONE),
    ((_P.STARTING, _P.RUNNING), _P.STOPPING, Cause.SUSPENDED, _ALL),
    ((_P.STARTING, _P.RUNNING), _P.STOPPING, Cause.UNHEALTHY, _SELF),
    ((_P.STOPPED, _P.BACKOFF, _P.PARKED, _P.RETIRED), _P.STOPPING, Cause.STRAY, _SELF),
    ((_P.STOPPING, _P.STARTING, _P.RUNNING), _P.STOPPED, Cause.ENDED, _ALL | _DRIVER),
    ((_P.BACKOFF, _P.PARKED), _P.STOPPED, Cause.ORDERED, _ANYONE),
    ((_P.BACKOFF, _P.STOPPED, _P.STOPPING, _P.STARTING), _P.PARKED, Cause.CLAIMED, _SELF),
    ((_P.STARTING, _P.RUNNING, _P.STOPPING), _P.PARKED, Cause.ELSEWHERE, _SELF),
    (_BEFORE_A_START, _P.BACKOFF, Cause.PREFLIGHT, _SELF),
    (_BEFORE_A_START, _P.PARKED, Cause.PREFLIGHT, _SELF),
    ((_P.STOPPED, _P.PARKED), _P.RETIRED, Cause.RETIRED, _ANYONE),
    ((_P.RETIRED,), _P.STOPPED, Cause.APPLIED, _SELF),
)
TRANSITIONS: frozenset[Transition] = frozenset(
    Transition(source, target, cause, actors)
    for sources, target, cause, actors in _TABLE
    for source in sources
)
_ALLOWED = {(t.source, t.target, t.cause): t.actors for t in TRANSITIONS}


def actor_kind(actor: str) -> Actor:
    """`airflow:<dag>/<run>/<task>`, `supervisor`, `driver`; anything else is a person."""
    kind = actor.partition(":")[0]
    return Actor(kind) if kind in (Actor.AIRFLOW, Actor.SUPERVISOR, Actor.DRIVER) else Actor.PERSON


def move(
    record: StreamRecord, target: Phase, *, cause: Cause, actor: str, now: float, reason: str, **changes: Any
) -> tuple[StreamRecord, Event]:
    """The record in its new phase and the event that says so. Raises IllegalTransition."""
    allowed = _ALLOWED.get((record.phase, target, cause))
    if allowed is None or actor_kind(actor) not in allowed:
        raise IllegalTransition(
            f"{record.stream}: no way from {record.phase} to {target} by {cause!s} of {actor}",
            expected=", ".join(
                sorted(f"{t.target} ({t.cause})" for t in TRANSITIONS if t.source == record.phase)
            ),
        )
    moved = replace(record, phase=target, phase_since=now, reason=reason, **changes)
    event = Event(
        id=0,
        at=now,
        stream=record.stream,
        kind="transition",
        from_phase=str(record.phase),
        to_phase=str(target),
        cause=str(cause),
        actor=actor,
        generation=moved.generation,
        epoch=moved.epoch,
        contract_hash=moved.contract_hash,
        detail=reason,
    )
    return moved, event
