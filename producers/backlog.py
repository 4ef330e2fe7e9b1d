"""What could not be delivered, in the order it was taken on: on disk, and behind that in memory.

Memory holds only what was taken on already when the disk had no more room for it. Nothing new is taken on
meanwhile, so it is never more than a session's buffer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from producers.records import Record
from producers.segments import Handed
from producers.spool import Spool, SpoolFullError

__all__ = ["Backlog"]

MOST_REFUSED = 1000  # that wait for room, before nothing new is taken on


class _Refused(NamedTuple):
    record: Record
    reason: str
    handed: Handed | None


class Backlog:
    """The spool, and what waits for room in it. `full` is why, while something does."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._memory: deque[Record] = deque()
        self._refused: deque[_Refused] = deque()
        self.full: SpoolFullError | None = None
        self.spooled = 0  # records that went to disk so far
        self.refused = 0  # records that were put apart

    @property
    def waits(self) -> bool:
        """Whether a new record has to go behind others."""
        return self._spool.unread > 0 or self._blocked

    @property
    def _blocked(self) -> bool:
        return bool(self._memory) or len(self._refused) >= MOST_REFUSED

    def unsaved(self) -> tuple[int, int | None]:
        """How many records are in memory alone, and the number of the oldest, as they were taken on."""
        refused = [item.record for item in self._refused if item.handed is None]
        oldest = [*refused, *([self._memory[0]] if self._memory else [])]
        return len(self._memory) + len(refused), min(map(_number, oldest), default=None)

    @property
    def in_memory(self) -> int:
        return len(self._memory) + len(self._refused)

    def keep(self, record: Record) -> None:
        """Take a new record on. Raises SpoolFullError, also while older ones wait for room."""
        self.write()
        if self._blocked and self.full is not None:
            raise self.full
        self._spool.append([record])
        self.spooled += 1

    def put_back(self, records: Sequence[Record]) -> None:
        """Records that were taken on before all that is in memory, and did not arrive."""
        self._memory.extendleft(reversed(records))
        # What came from the spool is read from there again.
        self._refused = deque(item for item in self._refused if item.handed is None)
        self.write()

    def next_unwritten(self) -> Record | None:
        """The oldest record in memory, to be sent from there once the spool is sent."""
        return self._memory.popleft() if self._memory else None

    def refuse(self, record: Record, reason: str, handed: Handed | None) -> Path | None:
        """Put a record apart that Kafka never takes. The file it is in, or None while it waits for room."""
        self._refused.append(_Refused(record, reason, handed))
        return self._put_apart()

    def write(self) -> None:
        """Write what waits for room, the oldest first."""
        try:
            while self._memory:
                self._spool.append([self._memory[0]], beyond_limit=True)
                self._memory.popleft()
                self.spooled += 1
        except SpoolFullError as error:
            self.full = error
        self._put_apart()
        if self.in_memory == 0:
            self.full = None

    def _put_apart(self) -> Path | None:
        path = None
        try:
            while self._refused:
                item = self._refused[0]
                path = self._spool.refuse(item.record, item.reason)
                self._refused.popleft()
                self.refused += 1
                if item.handed is not None:
                    self._spool.acknowledge(item.handed)
        except SpoolFullError as error:
            self.full = error
            return None
        return path


def _number(record: Record) -> int:
    """Which of those that this process took on, from 1."""
    return int(dict(record.headers)["headgate.id"].rpartition(b"-")[2]) + 1
