"""Steady rates from a checkpoint's commit times: the same measure for every job, whoever wrote it.

A batch counts as done when Spark has written its commit, whose file's time is taken. The first batch is
left out: it pays for compilation and first connections.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headgate.checkpoints.logs import batch_offsets

__all__ = ["Commits", "Spread", "Steady", "read_commits", "spread", "steady_part"]


@dataclass(frozen=True, slots=True)
class Commits:
    """One query: (moment of the commit, records read up to and with it), in order."""

    points: tuple[tuple[float, int], ...]

    def at(self, moment: float) -> int:
        """Records committed at a moment."""
        return max((records for when, records in self.points if when <= moment), default=0)


def read_commits(query: Path) -> Commits:
    """Read a checkpoint from its beginning; the source started at offset 0."""
    folder = query / "commits"
    points = []
    for number in sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()):
        offsets = batch_offsets(query, number).offsets
        records = sum(sum(partitions.values()) for partitions in offsets.values())
        points.append(((folder / str(number)).stat().st_mtime, records))
    return Commits(tuple(points))


@dataclass(frozen=True, slots=True)
class Steady:
    """The part of a run that a rate is taken from."""

    begun: float
    ended: float
    records: int

    @property
    def rate(self) -> float:
        return self.records / (self.ended - self.begun)


def steady_part(queries: Sequence[Commits], total: int) -> Steady:
    """What *every* query has committed, from when each has committed its first batch until each has
    committed the last record. Raises ValueError without two batches."""
    begun = max(query.points[0][0] for query in queries)
    ended = max(min(when for when, records in query.points if records >= total) for query in queries)
    before = min(query.at(begun) for query in queries)
    if ended <= begun or before >= total:
        raise ValueError("a steady rate needs more than one batch: more records, or fewer per batch")
    return Steady(begun, ended, total - before)


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    least: float
    most: float
    values: tuple[float, ...]

    def to_json(self) -> Mapping[str, object]:
        return {"median": self.median, "least": self.least, "most": self.most, "values": list(self.values)}


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values), tuple(values))
