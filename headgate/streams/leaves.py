"""Steps by which a stream leaves supervision, for a while or for good: drained, retired, out of sight."""

from __future__ import annotations

from dataclasses import replace

from headgate.streams.model import Desired, Phase
from headgate.streams.record import Ending, StopCause, StopOrder, event
from headgate.streams.steps import OUT_OF_SIGHT, Case, Effect, Step, who
from headgate.streams.transitions import Cause, move

__all__ = ["back_from_retirement", "drained", "out_of_sight", "retired"]


def drained(case: Case) -> Step | None:
    """An order to drain: once all of it is committed it becomes a stop; past its deadline it is given up,
    and the stream runs on."""
    record, drain, left = case.record, case.record.drain, case.seen.left
    assert drain is not None, "only a draining stream is asked"
    if left == 0:
        why = f"{drain.by}: {drain.reason}"
        stop = StopOrder(StopCause.ORDERED, drain.by, why, case.now + drain.stop_seconds)
        stopped = replace(record, desired=Desired.STOPPED, stopped_by=why, stop=stop, drain=None)
        text = "all that the topics held at the order is committed; it stops now"
        return Step(stopped, event(stopped, "drained", case.now, drain.by, text))
    if case.now < drain.deadline_at:
        return None
    many = "an unknown number of records" if left is None else f"{left} records"
    text = f"{many} were left at the deadline; the stream runs on"
    given_up = replace(record, drain=replace(drain, given_up=text))
    return Step(given_up, event(given_up, "drain given up", case.now, "supervisor", text))


def retired(case: Case) -> Step:
    """The pointer goes before the phase is written down: a retired stream has none."""
    by = case.record.stopped_by or "retired"
    moved, told = move(
        case.record,
        Phase.RETIRED,
        cause=Cause.RETIRED,
        actor=who(by),
        now=case.now,
        reason=f"{by}; data and checkpoints are kept",
        failures=(),
        failure_class=None,
        attempted=case.record.generation,
        stop=None,
    )
    return Step(moved, told, Effect.WITHDRAW)


def back_from_retirement(case: Case) -> Step:
    desired = Desired.STOPPED if case.record.desired is Desired.RETIRED else case.record.desired
    text = "its contract was applied anew"
    moved, told = move(
        case.record,
        Phase.STOPPED,
        cause=Cause.APPLIED,
        actor="supervisor",
        now=case.now,
        reason=text,
        desired=desired,
    )
    return Step(moved, told)


def out_of_sight(case: Case) -> Step:
    """A driver on a machine that cannot be looked at: parked, since to guess it dead could make two."""
    where = case.seen.host or "another machine"
    text = f"its driver was launched on {where} and cannot be seen from here; it may be alive"
    moved, told = move(
        case.record,
        Phase.PARKED,
        cause=Cause.ELSEWHERE,
        actor="supervisor",
        now=case.now,
        reason=f"{text}. When it is dead: headgate restart {case.record.stream}",
        stop=None,
        next_attempt_at=None,
    )
    return Step(moved, told, ending=Ending(OUT_OF_SIGHT, text=text))
