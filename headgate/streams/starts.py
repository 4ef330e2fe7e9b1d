"""Steps that start a driver, each behind preflight: what it has not looked at, or refuses, does not start."""

from __future__ import annotations

from headgate.streams import upgrade
from headgate.streams.model import FailureClass, Phase
from headgate.streams.policy import judge
from headgate.streams.record import Ending, Failure
from headgate.streams.steps import Case, Clearance, Effect, Step, ending
from headgate.streams.transitions import Cause, move

__all__ = ["cleared_launch", "cleared_start"]


def cleared_start(case: Case, cause: Cause, actor: str, reason: str, close: Ending | None = None) -> Step:
    """Every start goes through here: what preflight has not looked at, or refuses, does not start."""
    found = case.seen.preflight
    if found is None:
        return Step(case.record, effect=Effect.PREFLIGHT)
    if found.failure is None:
        warned = f"{reason}; preflight warns: {found.text}" if found.text else reason
        return _start(case, cause, actor, warned, close)
    return _held_back(case, found, found.failure, close)


def cleared_launch(case: Case) -> Step:
    """An intent that a supervisor before us wrote down and did not launch: time may have passed since."""
    found = case.seen.preflight
    if case.seen.claimed_epoch >= case.record.epoch:
        return _claimed(case, ending(case, "never started"))
    if found is None:
        return Step(case.record, effect=Effect.PREFLIGHT)
    if found.failure is None:
        return Step(case.record, effect=Effect.SPAWN)
    return _held_back(case, found, found.failure, ending(case, "never started"))


def _held_back(case: Case, found: Clearance, kind: FailureClass, close: Ending | None) -> Step:
    """A refusal parks; what does not answer is waited for, as a driver would that lacks it.

    An order that is waited with stays one that was not carried out; a refused one is done with.
    """
    record, now = case.record, case.now
    first_try = record.superseded and record.next_attempt_at is None
    death = Failure(now, kind, f"preflight: {found.text}")
    before = () if first_try else record.failures
    verdict = judge(before, death, newest_claim=True, policy=case.policy, jitter=case.jitter)
    # What preflight refuses no second try can help: a contract on trial is taken back, any other parks.
    after, verdict = upgrade.judged(record, death, verdict, given_up=True, back=case.seen.back)
    judged, taken_back = after is not record, after.generation > record.generation
    record = after
    waits = taken_back or (kind is FailureClass.DEPENDENCY and verdict.delay is not None)
    moved, told = move(
        record,
        Phase.BACKOFF if waits else Phase.PARKED,
        cause=Cause.PREFLIGHT,
        actor="supervisor",
        now=now,
        reason=verdict.reason if judged else _reason(found, death.text, waits),
        failures=verdict.failures,
        failure_class=kind,
        next_attempt_at=now + verdict.delay if waits and verdict.delay is not None else None,
        attempted=record.attempted if waits else record.generation,
        stop=None,
    )
    return Step(moved, told, ending=close)


def _reason(found: Clearance, told: str, waits: bool) -> str:
    return told if waits else f"preflight refuses the start: {found.text}"


def _claimed(case: Case, close: Ending | None) -> Step:
    """Somebody else has claimed this epoch or a newer one."""
    text = f"fenced: another supervisor claimed epoch {case.seen.claimed_epoch} beside the checkpoints"
    moved, told = move(
        case.record,
        Phase.PARKED,
        cause=Cause.CLAIMED,
        actor="supervisor",
        now=case.now,
        reason=text,
        failure_class=FailureClass.FENCED,
        stop=None,
    )
    return Step(moved, told, ending=close)


def _start(case: Case, cause: Cause, actor: str, reason: str, close: Ending | None) -> Step:
    """A new epoch. Only a new order takes over from an epoch that is not ours."""
    record, now = case.record, case.now
    if case.seen.claimed_epoch > record.epoch and cause is not Cause.ORDERED:
        return _claimed(case, close)
    again = cause is Cause.TIMER
    moved, told = move(
        record,
        Phase.STARTING,
        cause=cause,
        actor=actor,
        now=now,
        reason=reason,
        epoch=max(record.epoch, case.seen.claimed_epoch) + 1,
        attempted=record.generation,
        restarts=record.restarts + 1 if again else record.restarts,
        failures=record.failures if again else (),
        failure_class=record.failure_class if again else None,
        next_attempt_at=None,
        stop=None,
        stopped_by=None,
        stopped_how=None,
    )
    return Step(moved, told, Effect.SPAWN, close)
