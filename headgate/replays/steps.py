"""What to do about a replay that is to run, by what its folder says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headgate.streams.failures import EXIT_REFUSED, diagnose_exit
from headgate.streams.handover import ExitNote
from headgate.streams.model import DriverStatus, FailureClass
from headgate.streams.policy import Policy, judge
from headgate.streams.record import Failure

__all__ = ["Failed", "Finished", "Launch", "Seen", "Step", "Wait", "decide"]

# A runner that found another one at work; whatever it was, it was not the replay that failed.
_NOT_RUN = (73, 75)


@dataclass(frozen=True, slots=True)
class Seen:
    """`epoch` is the newest that had a runner, 0 before the first; `report` may be of an earlier one.
    `unreadable`: which of its notes cannot be read, and count as not there."""

    alive: bool
    epoch: int
    ended: ExitNote | None = None
    report: DriverStatus | None = None
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    epoch: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing before `until`. `failures` are those so far, up to the end of epoch `judged`."""

    failures: tuple[Failure, ...]
    judged: int
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    pass


@dataclass(frozen=True, slots=True)
class Failed:
    text: str


Step = Launch | Wait | Finished | Failed


def decide(
    seen: Seen, failures: Sequence[Failure], *, judged: int, now: float, policy: Policy, jitter: float
) -> Step:
    """A replay is started until its range is read; what starting again cannot help ends it."""
    if seen.alive:
        return Wait(tuple(failures), judged)
    if seen.report is not None and seen.report.phase == "done":
        return Finished()
    if seen.epoch in (0, judged) or _was_no_failure(seen):
        return Launch(seen.epoch + 1)
    kind, text = _why(seen)
    if seen.ended is not None and seen.ended.returncode == EXIT_REFUSED:
        return Failed(text)
    at = seen.ended.at if seen.ended is not None else now
    death = Failure(at, kind, text, _progressed(seen))
    verdict = judge(failures, death, newest_claim=True, policy=policy, jitter=jitter)
    if verdict.delay is None:
        return Failed(verdict.reason)
    return Wait(verdict.failures, seen.epoch, now + verdict.delay)


def _was_no_failure(seen: Seen) -> bool:
    """Whether its last driver was asked to end, or never came to run."""
    code = seen.ended.returncode if seen.ended is not None else None
    stopped = seen.report is not None and seen.report.phase == "stopped" and seen.report.epoch == seen.epoch
    return code in _NOT_RUN or (code == 0 and stopped)


def _progressed(seen: Seen) -> bool:
    """Whether this very epoch has committed: an older report would make each death the first again. What
    the others committed says nothing of the query that fails each time."""
    report = seen.report
    if report is None or report.epoch != seen.epoch:
        return False
    failed = report.queries.get(report.failure_query or "")
    judged = list(report.queries.values()) if failed is None else [failed]
    return any(each.batches for each in judged)


def _why(seen: Seen) -> tuple[FailureClass, str]:
    """The driver's own word counts first."""
    report = seen.report
    if report is not None and report.epoch == seen.epoch and report.phase == "failed":
        text = (report.failure_message or "no message").strip().partition("\n")[0][:500]
        known = {each.value for each in FailureClass}
        given = report.failure_class or ""
        return FailureClass(given) if given in known else FailureClass.UNKNOWN, text
    ended = seen.ended
    found = diagnose_exit(ended.returncode, ended.signal) if ended else diagnose_exit(None, None)
    return found.failure, f"{found.rule} ({found.evidence})"
