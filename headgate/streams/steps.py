"""The building blocks of `machine.decide`: what is seen, one step, and each kind of step as a function."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from headgate.checkpoints.wayback import WayBack
from headgate.streams import upgrade
from headgate.streams.failures import Diagnosis
from headgate.streams.model import Desired, Event, FailureClass, Phase
from headgate.streams.policy import Policy, judge
from headgate.streams.record import Ending, Failure, StopCause, StopOrder, StreamRecord
from headgate.streams.transitions import Cause, move

__all__ = [
    "OUT_OF_SIGHT",
    "Case",
    "Clearance",
    "Effect",
    "Life",
    "Seen",
    "Step",
    "begin_stop",
    "ending",
    "failed",
    "failure",
    "outcome",
    "stop_unwanted",
    "stopped_at_rest",
    "sweep",
    "to_stopped",
    "unhealthy",
    "who",
]


OUT_OF_SIGHT = "out of sight"  # how an incarnation on another machine ended, as far as is known


class Life(StrEnum):
    """What is left of the newest incarnation. Only `never`, `dead` and `none` allow a successor."""

    NONE = "none"  # there was no incarnation, or the last one is closed and nothing is left of it
    NEVER = "never"  # the intent is written, nothing was launched for it
    PENDING = "pending"  # a runner was launched, its driver is not known yet
    ALIVE = "alive"
    ELSEWHERE = "elsewhere"  # launched where this supervisor cannot look: neither alive nor dead
    REMAINS = "remains"  # the driver is dead, processes that it started are not
    DEAD = "dead"  # nothing is left; its row is still open


class Effect(StrEnum):
    SPAWN = "spawn"
    SIGNAL = "signal"
    KILL = "kill"
    SWEEP = "sweep"
    WITHDRAW = "withdraw"  # take the applied contract's pointer away: nothing is to run from it
    PREFLIGHT = "preflight"  # look whether it may start; the answer is seen in a later round


@dataclass(frozen=True, slots=True)
class Clearance:
    """What preflight said of the start that is due, looked at while the record was as it is now.

    Without a `failure` the stream may start, and the text holds warnings. DEPENDENCY says that something
    could not be looked at; every other class is a refusal.
    """

    failure: FailureClass | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the driver of the newest epoch. `up` and `progressed` come from its own report."""

    life: Life
    returncode: int | None = None
    signal: int | None = None
    exited_at: float | None = None
    host: str = ""  # where it was launched, for a driver elsewhere
    settling: bool = False  # the driver is dead, its runner is about to say how it ended
    diagnosis: Diagnosis | None = None
    up: bool = False
    settles: bool = False  # it prepares its checkpoint: a copy, a restore, a swap
    reported_at: float | None = None
    waited_at: float | None = None  # when a batch was last seen to wait for a service
    progressed: bool = False  # a batch was committed by this incarnation
    each_progressed: bool = False  # by each query, or it had nothing to do
    healthy: bool = False  # a commit or an idle report of each query since it came up
    shown: bool = False  # the same, or a task of a batch under way that finished
    settled: str | None = None  # why each of its queries has proved itself
    alive_seconds: float = 0.0  # how long this supervisor has seen the driver alive
    pending_seconds: float = 0.0  # how long this supervisor has seen a runner without a driver
    claimed_epoch: int = 0  # the newest epoch that any driver has claimed beside the checkpoints
    stalled: str | None = None
    stalled_since: float | None = None
    preflight: Clearance | None = None  # None until it has been looked at
    left: int | None = None  # records that a drain still waits for; None when that cannot be said
    applied: bool = False  # the pipeline's contract is applied
    back: WayBack = field(default_factory=WayBack)  # of a contract on trial


@dataclass(frozen=True, slots=True)
class Step:
    """The next record, why, and what to do. `ending` closes the row of the newest incarnation."""

    record: StreamRecord
    event: Event | None = None
    effect: Effect | None = None
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Case:
    record: StreamRecord
    seen: Seen
    now: float
    policy: Policy
    jitter: float
    suspended: bool

    @property
    def wanted(self) -> bool:
        return self.record.desired is Desired.RUNNING and not self.suspended

    @property
    def gone(self) -> bool:
        return self.seen.life in (Life.NONE, Life.NEVER, Life.DEAD)


def begin_stop(case: Case, cause: Cause, kind: StopCause, by: str, reason: str) -> Step:
    """Stopping begins; an order that waits brings its own deadline, actor and reason along."""
    asked = case.record.stop
    order = StopOrder(kind, by, reason, case.now + case.policy.stop_deadline)
    if asked is not None:
        order = replace(asked, cause=kind)
    moved, told = move(
        case.record,
        Phase.STOPPING,
        cause=cause,
        actor=order.by,
        now=case.now,
        reason=order.reason,
        stop=order,
    )
    return Step(moved, told)


def stop_unwanted(case: Case) -> Step:
    record = case.record
    if record.desired is not Desired.RUNNING:
        by = who(record.stopped_by)
        return begin_stop(case, Cause.ORDERED, StopCause.ORDERED, by, record.stopped_by or "stop ordered")
    if case.suspended:
        return begin_stop(
            case, Cause.SUSPENDED, StopCause.SUSPENDED, "supervisor", "the platform is suspended"
        )
    by, order = record.ordered_by, f"generation {record.generation} was ordered by {record.ordered_by}"
    return begin_stop(case, Cause.REPLACED, StopCause.REPLACED, by, order)


def unhealthy(case: Case, reason: str, kind: StopCause = StopCause.UNHEALTHY) -> Step:
    step = begin_stop(case, Cause.UNHEALTHY, kind, "supervisor", reason)
    assert step.record.stop is not None
    return replace(step, record=replace(step.record, stop=replace(step.record.stop, kill=True)))


def stopped_at_rest(case: Case) -> Step:
    record = case.record
    by = record.stopped_by or "stop ordered"
    moved, told = move(
        record,
        Phase.STOPPED,
        cause=Cause.ORDERED,
        actor=who(by),
        now=case.now,
        reason=f"{by}; no driver was running",
        stopped_how="nothing ran",
        next_attempt_at=None,
        failures=(),
        stop=None,
    )
    return Step(moved, told)


def to_stopped(case: Case, actor: str, reason: str, how: str, close: Ending) -> Step:
    moved, told = move(
        case.record,
        Phase.STOPPED,
        cause=Cause.ENDED,
        actor=actor,
        now=case.now,
        reason=reason,
        stop=None,
        stopped_how=how,
        next_attempt_at=None,
    )
    return Step(moved, told, ending=close)


def failed(case: Case, death: Failure, cause: Cause, actor: str, how: str, *, given_up: bool = False) -> Step:
    """`given_up`: a contract on trial has had its chance."""
    record, now = case.record, case.now
    newest = case.seen.claimed_epoch <= record.epoch
    verdict = judge(record.failures, death, newest_claim=newest, policy=case.policy, jitter=case.jitter)
    close = replace(ending(case, how, death.text), failure=death.failure)
    record, verdict = upgrade.judged(record, death, verdict, given_up=given_up, back=case.seen.back)
    retry = verdict.delay is not None
    moved, told = move(
        record,
        Phase.BACKOFF if retry else Phase.PARKED,
        cause=cause,
        actor=actor,
        now=now,
        reason=verdict.reason,
        failures=verdict.failures,
        failure_class=death.failure,
        next_attempt_at=now + verdict.delay if verdict.delay is not None else None,
        stop=None,
    )
    return Step(moved, told, ending=close)


def failure(case: Case) -> Failure:
    found = case.seen.diagnosis
    if found is None:
        return Failure(case.now, FailureClass.TRANSIENT, "no driver could be started", False)
    return Failure(case.now, found.failure, f"{found.rule} ({found.evidence})", case.seen.progressed)


def outcome(case: Case, stop: StopOrder) -> tuple[str, str]:
    seen = case.seen
    if seen.life is Life.NEVER:
        return "never started", "no driver had been started"
    if stop.killed_at is not None:
        waited = stop.killed_at - (stop.signalled_at or stop.killed_at)
        return "killed", f"killed after {waited:.0f} s; the batch under way runs again at the next start"
    if seen.returncode == 0:
        return "committed", "the batch under way was committed"
    status = f"signal {seen.signal}" if seen.signal else f"exit code {seen.returncode}"
    return "interrupted", f"ended with {status}; a batch under way runs again at the next start"


def sweep(case: Case) -> Step | None:
    """What a dead driver left behind: it may end in order for a moment, then it is killed."""
    seen, stop = case.seen, case.record.stop
    if seen.settling:
        return None
    orderly = seen.signal is None and seen.returncode is not None and (stop is None or stop.killed_at is None)
    if orderly and seen.exited_at is not None and case.now - seen.exited_at < case.policy.remains_grace:
        return None
    return Step(case.record, effect=Effect.SWEEP)


def ending(case: Case, how: str, text: str = "") -> Ending:
    return Ending(how, case.seen.returncode, case.seen.signal, None, text)


def who(stopped_by: str | None) -> str:
    """The actor in `<actor>: <reason>`; actors have a colon of their own, reasons follow `: `."""
    return (stopped_by or "supervisor").partition(": ")[0]
