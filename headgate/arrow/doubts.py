"""How much of a topic the Arrow lane is not sure of: its owner should know when that is most of it."""

from __future__ import annotations

from collections import deque

__all__ = ["Doubts"]

_BATCHES = 20
_LEAST_RECORDS = 1_000
# Far enough apart that a topic which is about half of each kind is not told of in every batch.
_MOST, _FEW = 0.5, 0.3


class Doubts:
    """The share of doubtful records over the last batches. Each of them is read twice, and a batch that has
    some costs a job of Spark: where they are most of a topic, the JVM lane is the shorter way."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque(maxlen=_BATCHES)
        self.most = False

    def note(self, read: int, doubtful: int) -> bool:
        """One batch. Whether they have come to be most of the newest records, or have ceased to be."""
        if read:
            self._seen.append((read, doubtful))
        total = sum(read for read, _ in self._seen)
        share = sum(doubtful for _, doubtful in self._seen) / total if total else 0.0
        before = self.most
        self.most = share > _FEW if before else share > _MOST and total >= _LEAST_RECORDS
        return self.most != before
