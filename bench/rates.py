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

__all__ = ["Commits", "Spread", "read_commits", "spread", "steady_rate", "steady_window"]


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


def steady_window(queries: Sequence[Commits], total: int) -> tuple[float, float]:
    """From when every query has committed its first batch until every one has committed the last record."""
    begun = max(query.points[0][0] for query in queries)
    return begun, max(min(when for when, records in query.points if records >= total) for query in queries)


def steady_rate(queries: Sequence[Commits], total: int) -> float:
    """Records per second that *every* query has committed in the steady window. Raises ValueError without two
    batches."""
    begun, ended = steady_window(queries, total)
    before = min(query.at(begun) for query in queries)
    if ended <= begun or before >= total:
        raise ValueError("a steady rate needs more than one batch: more records, or fewer per batch")
    return (total - before) / (ended - begun)


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
