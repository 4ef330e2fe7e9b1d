"""The circuit breaker: a stream that quarantines nearly all it reads, minute after minute, is parked.

Every such batch fills the quarantine with what somebody has to replay, while Kafka keeps the records
anyway. A batch below the bound ends the count; one without records says nothing. Few records are no
reason: the alert on the ratio tells of them. Pure but for the watch's memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headgate.checkpoints.books import Totals
from headgate.contract.model import Job, seconds
from headgate.errors import HeadgateError

__all__ = ["LEAST_RECORDS", "Poison", "PoisonWatch", "PoisonedError", "after_batch", "explain", "lasts"]

# Below it a quarantine is no trouble, and a share of so few says little.
LEAST_RECORDS = 100
_REASONS = 5


class PoisonedError(HeadgateError):
    """Nearly all that was read for minutes went into the quarantine."""


@dataclass(frozen=True, slots=True)
class Poison:
    """Batches in a row, each of which quarantined more than it may; `example` is of the newest."""

    since: float
    until: float
    batches: int = 0
    read: int = 0
    quarantined: int = 0
    rules: Mapping[str, int] = field(default_factory=dict)
    example: str = ""


def after_batch(
    before: Poison | None, batch: Totals, example: str, *, ratio: float, now: float
) -> Poison | None:
    """What holds after a batch that ended now."""
    if not batch.read:
        return before
    if batch.quarantined <= ratio * batch.read:
        return None
    known = before or Poison(now, now)
    rules = {
        name: known.rules.get(name, 0) + batch.rules.get(name, 0) for name in {*known.rules, *batch.rules}
    }
    return Poison(
        since=known.since,
        until=now,
        batches=known.batches + 1,
        read=known.read + batch.read,
        quarantined=known.quarantined + batch.quarantined,
        rules=rules,
        example=example or known.example,
    )


def lasts(poison: Poison | None, seconds: float) -> bool:
    """Whether the stream is to be parked. It is judged by batches that ended, never by silence."""
    return (
        poison is not None
        and poison.batches > 1
        and poison.quarantined >= LEAST_RECORDS
        and poison.until - poison.since >= seconds
    )


def explain(pipeline: str, poison: Poison) -> PoisonedError:
    """In one line, as a parked stream shows it: what came, for which reasons, where to look, what to do."""
    top = sorted(poison.rules.items(), key=lambda each: (-each[1], each[0]))[:_REASONS]
    reasons = ", ".join(f"{name} {count}" for name, count in top) or "none was counted"
    where = f"; for example {poison.example}" if poison.example else ""
    choices = " ".join(f"({number}) {each}." for number, each in enumerate(_choices(pipeline), 1))
    return PoisonedError(
        f"{poison.quarantined} of the {poison.read} records of the last "
        f"{poison.until - poison.since:.0f} s ({poison.batches} batches) were quarantined: {reasons}{where}. "
        f"Choices: {choices}"
    )


def _choices(pipeline: str) -> tuple[str, ...]:
    return (
        f"headgate start {pipeline}, once the producer is stopped or repaired: goes on where it stopped",
        "headgate plan and headgate apply, once a wrong rule or column is corrected, then "
        f"headgate restart {pipeline}",
        f"headgate restart {pipeline} --from latest: skips what waits in the topics",
        "if it is to be so, raise job.poison_park or job.poison_ratio, of which 1 switches the breaker off",
    )


class PoisonWatch:
    """One driver's count, by its contract. A start counts anew: who ordered it has seen to the cause."""

    def __init__(self, pipeline: str, job: Job) -> None:
        self._pipeline = pipeline
        self._ratio = job.poison_ratio
        self._park = seconds(job.poison_park)
        self._poison: Poison | None = None

    def note(self, batch: Totals, example: str, now: float) -> None:
        self._poison = after_batch(self._poison, batch, example, ratio=self._ratio, now=now)

    @property
    def verdict(self) -> PoisonedError | None:
        """Why the stream is to be parked, None while it is not."""
        poison = self._poison
        return explain(self._pipeline, poison) if poison is not None and lasts(poison, self._park) else None
