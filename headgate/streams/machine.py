"""What to do about one stream: a pure function of its record, of what is seen of its driver, and the time.

`decide` answers one step at a time: the record as it shall be, and the effect on the world. A start is
written down before it is carried out; a signal is sent before it is written down as sent, because two
are harmless and none is not. The supervisor calls again until there is nothing left to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from headgate.streams import upgrade
from headgate.streams.leaves import back_from_retirement, drained, out_of_sight, retired
from headgate.streams.model import Desired, FailureClass, Phase
from headgate.streams.policy import Policy
from headgate.streams.record import Failure, StopCause, StopOrder, StreamRecord, event
from headgate.streams.starts import cleared_launch, cleared_start
from headgate.streams.steps import (
    Case,
    Effect,
    Life,
    Seen,
    Step,
    begin_stop,
    ending,
    failed,
    failure,
    outcome,
    stop_unwanted,
    stopped_at_rest,
    sweep,
    to_stopped,
    unhealthy,
    who,
)
from headgate.streams.transitions import Cause, move

__all__ = ["decide"]


def decide(
    record: StreamRecord, seen: Seen, *, now: float, policy: Policy, jitter: float, suspended: bool = False
) -> Step | None:
    """The next step for this stream, or None when there is nothing to do but wait."""
    case = Case(record, seen, now, policy, jitter, suspended)
    if seen.life is Life.ELSEWHERE:
        return out_of_sight(case) if record.phase in _LIVE else None
    # What is parked takes no step by itself; its drain waits with it.
    if record.draining and record.phase is not Phase.PARKED and (step := drained(case)) is not None:
        return step
    return _PHASES[record.phase](case)


def _resting(case: Case) -> Step | None:
    """Stopped, backoff, parked and retired: nothing may live; what is wanted decides the rest."""
    record = case.record
    if case.seen.life is Life.REMAINS:
        return sweep(case)
    if not case.gone:
        reason = f"a driver is alive though the stream is {record.phase}"
        return begin_stop(case, Cause.STRAY, StopCause.STRAY, "supervisor", reason)
    if record.phase is Phase.RETIRED:
        anew = record.desired is not Desired.RETIRED or case.seen.applied
        return back_from_retirement(case) if anew else None
    if record.desired is not Desired.RUNNING:
        if record.phase is not Phase.STOPPED:
            return stopped_at_rest(case)
        return retired(case) if record.desired is Desired.RETIRED else None
    return _start_if_due(case) if case.wanted else None


def _start_if_due(case: Case) -> Step | None:
    record, waits = case.record, 0.0
    if record.phase is Phase.BACKOFF and record.next_attempt_at is not None:
        waits = record.next_attempt_at - case.now
    if waits > 0:
        # A short pause is enough to look in, so that preflight costs a restart no time.
        early = waits <= case.policy.preflight_lead and case.seen.preflight is None
        return Step(record, effect=Effect.PREFLIGHT) if early else None
    if record.superseded:
        return cleared_start(case, Cause.ORDERED, record.ordered_by, "ordered")
    if record.phase is Phase.STOPPED:
        return cleared_start(case, Cause.RESUMED, "supervisor", "the platform was resumed")
    if record.phase is Phase.BACKOFF:
        return cleared_start(case, Cause.TIMER, "supervisor", f"attempt {len(record.failures) + 1}")
    return None


def _living(case: Case) -> Step | None:
    """Starting and running: follow the driver, stop it when it is not wanted, judge its death."""
    record, life = case.record, case.seen.life
    if life is Life.REMAINS:
        return sweep(case)
    if life is Life.NEVER and case.wanted and not record.superseded:
        return cleared_launch(case)
    if case.gone:
        return _died(case)
    if not case.wanted or record.superseded:
        return stop_unwanted(case)
    if life is Life.PENDING:
        late = case.seen.pending_seconds > case.policy.launch_seconds
        told = "its runner did not start a driver in time"
        return unhealthy(case, told, StopCause.MUTE) if late else None
    return _follow(case)


def _follow(case: Case) -> Step | None:
    record, seen, policy = case.record, case.seen, case.policy
    if record.phase is Phase.STARTING and seen.up:
        moved, told = move(
            record, Phase.RUNNING, cause=Cause.UP, actor="driver", now=case.now, reason="queries run"
        )
        return Step(moved, told)
    why = seen.settled
    if why is not None and upgrade.proves(record):
        proven = upgrade.stable(record)
        return Step(proven, event(proven, "stable", case.now, "supervisor", why))
    mute = record.phase is Phase.STARTING and seen.reported_at is None
    if mute and seen.alive_seconds >= policy.report_seconds:
        silent = f"its driver lives and has said nothing for {policy.report_seconds:.0f} s"
        return unhealthy(case, silent, StopCause.MUTE)
    if (ill := _ill(case)) is not None:
        return unhealthy(case, ill)
    settled = record.phase is Phase.RUNNING and case.now - record.phase_since >= policy.healthy_seconds
    if settled and seen.healthy and record.failures:
        detail = f"healthy for {policy.healthy_seconds:.0f} s after {len(record.failures)} failures"
        calm = replace(record, failures=(), failure_class=None, next_attempt_at=None)
        return Step(calm, event(calm, "healthy", case.now, "supervisor", detail))
    return None


def _ill(case: Case) -> str | None:
    """Why a driver that lives is to be ended."""
    record, seen, policy = case.record, case.seen, case.policy
    shown, begun = seen.shown or seen.settles, _trial_since(record, seen)
    unready = upgrade.unready(record, shown=shown, since=begun, now=case.now, policy=policy)
    if unready is not None:
        return unready
    if seen.stalled is not None and policy.stall_restart is not None:
        since = seen.stalled_since if seen.stalled_since is not None else case.now
        if case.now - since >= policy.stall_restart:
            return f"stalled: {seen.stalled}"
    return None


def _trial_since(record: StreamRecord, seen: Seen) -> float:
    """Since when a driver could have shown something. Batches that a restore runs again come before it is
    up, and are reported as they go; a service that is away is no fault of its contract."""
    started = seen.reported_at if record.phase is Phase.STARTING else None
    return max(record.phase_since, started or 0.0, seen.waited_at or 0.0)


def _stopping(case: Case) -> Step | None:
    record, seen, stop = case.record, case.seen, case.record.stop
    assert stop is not None, "the phase stopping carries its stop order"
    if seen.life is Life.REMAINS:
        return sweep(case)
    if case.gone:
        return _ended(case, stop)
    if stop.kill or case.now >= stop.deadline_at:
        if stop.killed_at is not None:
            return Step(record, effect=Effect.KILL)
        why = "at once, as ordered" if stop.kill else "it was not done by the deadline"
        marked = replace(record, stop=replace(stop, killed_at=case.now))
        return Step(marked, event(marked, "kill", case.now, "supervisor", why), Effect.KILL)
    if stop.signalled_at is None and seen.life is Life.ALIVE:
        marked = replace(record, stop=replace(stop, signalled_at=case.now))
        text = f"SIGTERM, {max(stop.deadline_at - case.now, 0.0):.0f} s to finish"
        return Step(
            marked,
            event(marked, "signal", case.now, "supervisor", text),
            Effect.SIGNAL,
        )
    return None


def _died(case: Case) -> Step:
    """A driver is gone that no stop was under way for."""
    record = case.record
    if record.desired is not Desired.RUNNING:
        close = ending(case, "stopped")
        actor = who(record.stopped_by)
        return to_stopped(case, actor, "stopped before its driver ran", "nothing ran", close)
    if case.seen.life is Life.NEVER:  # not wanted for now, or an order came before it was launched
        close = ending(case, "never started")
        if record.superseded and case.wanted:
            return cleared_start(case, Cause.ORDERED, record.ordered_by, "ordered", close)
        return to_stopped(case, "supervisor", "the platform is suspended", "nothing ran", close)
    if record.superseded:
        close = ending(case, "failed")
        reason = "ordered; the driver before was gone"
        return cleared_start(case, Cause.ORDERED, record.ordered_by, reason, close)
    return failed(case, failure(case), Cause.FAILED, "driver", "failed")


def _ended(case: Case, stop: StopOrder) -> Step:
    """A stop has done its work."""
    record = case.record
    how, result = outcome(case, stop)
    ill = stop.cause in (StopCause.UNHEALTHY, StopCause.MUTE)
    if record.desired is Desired.RUNNING and ill and not record.superseded:
        # It was one query that stalled: the batches of the others are no progress of it.
        death = Failure(case.now, FailureClass.TRANSIENT, stop.reason, case.seen.each_progressed)
        given_up = stop.cause is StopCause.UNHEALTHY
        return failed(case, death, Cause.UNHEALTHY, "supervisor", how, given_up=given_up)
    close = ending(case, how, result)
    if not case.wanted:
        actor = stop.by if record.desired is Desired.RUNNING else who(record.stopped_by)
        return to_stopped(case, actor, f"{stop.reason}; {result}", how, close)
    if record.superseded:
        reason = f"the driver before is gone: {result}"
        return cleared_start(case, Cause.ORDERED, record.ordered_by, reason, close)
    return cleared_start(case, Cause.RESUMED, "supervisor", f"still wanted; {result}", close)


_LIVE = (Phase.STARTING, Phase.RUNNING, Phase.STOPPING)
_PHASES: dict[Phase, Callable[[Case], Step | None]] = {
    Phase.STOPPED: _resting,
    Phase.BACKOFF: _resting,
    Phase.PARKED: _resting,
    Phase.RETIRED: _resting,
    Phase.STARTING: _living,
    Phase.RUNNING: _living,
    Phase.STOPPING: _stopping,
}
