"""How much of a topic the Arrow lane is not sure of: its owner should know when that is most of it."""

from __future__ import annotations

from collections import deque

__all__ = ["Doubts"]

_BATCHES = 20
_MOST = 0.5


class Doubts:
    """The share of doubtful records over the last batches. Each of them is read twice, and a batch that has
    some costs a job of Spark: where they are most of a topic, the JVM lane is the shorter way."""

    def __init__(self) -> None:
        self._seen: deque[tuple[int, int]] = deque(maxlen=_BATCHES)
        self._most = False

    def note(self, read: int, doubtful: int) -> bool:
        """One batch. Whether they have come to be most of the newest records, or have ceased to be."""
        if read:
            self._seen.append((read, doubtful))
        before, self._most = self._most, self.share > _MOST
        return self._most != before

    @property
    def share(self) -> float:
        read = sum(read for read, _ in self._seen)
        return sum(doubtful for _, doubtful in self._seen) / read if read else 0.0

    @property
    def most(self) -> bool:
        return self._most
