"""The rate of a job whose progress shows in the offsets that its checkpoints commit to Kafka."""

from __future__ import annotations

from collections.abc import Iterable

from bench.rates import Steady

__all__ = ["checkpoints", "steady_between"]

Point = tuple[float, int]

# Each reader commits the offsets of its own partitions, within moments of one checkpoint.
_MOMENTS = 0.6


def checkpoints(sights: Iterable[Point]) -> list[Point]:
    """Of (moment, records committed so far), each time they were looked at: one point for each checkpoint,
    when the last of its readers has committed."""
    points: list[Point] = []
    changed = 0.0
    for moment, records in sights:
        before = points[-1][1] if points else 0
        if records <= before:
            continue
        if points and moment - changed < _MOMENTS:
            points.pop()
        points.append((moment, records))
        changed = moment
    return points


def steady_between(points: Iterable[Point], *, first: int, total: int) -> Steady:
    """From the checkpoint that has the first `first` records until the last one before the end: the one with
    the last record comes when its interval is over, not when the work is. Raises ValueError without two."""
    within = [(moment, records) for moment, records in points if first <= records < total]
    if len(within) < 2:
        raise ValueError("a rate needs two checkpoints on the way: more records, or a shorter interval")
    (begun, before), (ended, after) = within[0], within[-1]
    return Steady(begun, ended, after - before)
