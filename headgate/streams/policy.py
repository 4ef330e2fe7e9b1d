"""When a dead driver is started again, and when it is not: one policy for each failure class.

    dependency             again for ever, later and later: what it needs will come back
    transient              again, later and later; N without progress inside the window: parked
    fenced                 as transient while nobody holds a newer epoch; otherwise parked
    unknown                as transient, parked at the third without progress
    deterministic          once more, then parked
    data_loss, checkpoint  parked at once: a restart repeats the loss, or hides it
    poison                 parked at once: a restart goes on filling the quarantine

Progress is a committed batch. A failure after progress begins a new count: a driver that was killed
ten times and committed in between is not in a crash loop, and the alert on restarts tells of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headgate.streams.model import FailureClass
from headgate.streams.record import Failure

__all__ = ["Judgement", "Policy", "backoff_seconds", "judge"]


# What is parked by its first failure, and what is said of it beside its text.
_AT_ONCE = {
    FailureClass.DATA_LOSS: "; a restart cannot help",
    FailureClass.CHECKPOINT: "; a restart cannot help",
    FailureClass.POISON: "",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """The figures of supervision, all in seconds but for the counts."""

    backoff_base: float = 0.5
    # 0.5, 2, 8, 32, 128, 300 …: six restarts in the first ten minutes of an outage, no storm.
    backoff_factor: float = 4.0
    backoff_cap: float = 300.0
    brake_failures: int = 5
    brake_window: float = 600.0
    deterministic_limit: int = 2
    unknown_limit: int = 3
    healthy_seconds: float = 30.0
    stop_deadline: float = 60.0
    launch_seconds: float = 30.0
    report_seconds: float = 120.0  # a driver's first report comes before it starts Spark, so within seconds
    preflight_lead: float = 1.0  # so long before a restart is due, preflight begins to look
    remains_grace: float = 5.0  # a JVM that ends in order deletes its temporary files first
    stall_floor: float = 30.0  # below it nothing is called a stall
    stall_restart: float | None = 600.0  # after so long a stall; the contract's job has the last word
    stable_batches: int = 3  # a new epoch is stable after so many batches of each query,
    ready_seconds: float = 60.0  # or when a query has had nothing to do for so long
    trial_seconds: float = 300.0  # a changed contract is given up when it has shown no sign for so long


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows a failure: `delay` until the next attempt, or None when the stream is parked."""

    failures: tuple[Failure, ...]
    delay: float | None
    reason: str


def backoff_seconds(failures: int, policy: Policy, jitter: float) -> float:
    """The pause after the n-th failure in a row; `jitter` in [0, 1) spreads it by a fifth either way."""
    exponent = min(max(failures - 1, 0), 32)
    delay = min(policy.backoff_base * policy.backoff_factor**exponent, policy.backoff_cap)
    return min(delay * (0.8 + 0.4 * jitter), policy.backoff_cap)


def judge(
    before: Sequence[Failure], failure: Failure, *, newest_claim: bool, policy: Policy, jitter: float
) -> Judgement:
    """Retry or park. `newest_claim` says that nobody has claimed the checkpoint with a newer epoch."""
    kept = () if failure.progressed else tuple(before)
    failures = (*kept, failure)[-50:]
    parked = _why_parked(failures, failure, newest_claim, policy)
    if parked is not None:
        return Judgement(failures, None, parked)
    delay = backoff_seconds(len(failures), policy, jitter)
    return Judgement(failures, delay, f"{failure.failure}: {failure.text}")


def _why_parked(
    failures: Sequence[Failure], failure: Failure, newest_claim: bool, policy: Policy
) -> str | None:
    kind, text = failure.failure, failure.text
    if kind in _AT_ONCE:
        return f"{kind}: {text}{_AT_ONCE[kind]}"
    if kind is FailureClass.DEPENDENCY:
        return None
    if kind is FailureClass.FENCED and not newest_claim:
        return f"fenced: {text}; another supervisor has claimed this checkpoint with a newer epoch"
    same = sum(1 for past in failures if past.failure is kind)
    limits = {
        FailureClass.DETERMINISTIC: policy.deterministic_limit,
        FailureClass.UNKNOWN: policy.unknown_limit,
    }
    if same >= limits.get(kind, policy.brake_failures):
        return f"{kind}: {text}; {same} times without progress"
    recent = [
        past
        for past in failures
        if past.failure is not FailureClass.DEPENDENCY and past.at > failure.at - policy.brake_window
    ]
    if len(recent) >= policy.brake_failures:
        return f"crash loop: {len(recent)} failures without progress, the last one {kind}: {text}"
    return None
