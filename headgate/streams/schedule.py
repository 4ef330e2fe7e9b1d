"""Snapshots by the clock: a thread of the supervisor that leads, beside its loop, which waits for nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import read_lineage
from headgate.checkpoints.snapshots import find_snapshots
from headgate.errors import HeadgateError
from headgate.settings import Settings
from headgate.streams.journal import Journal
from headgate.streams.model import Phase
from headgate.streams.record import StreamRecord
from headgate.streams.store import StateStore
from headgate.streams.taking import take

__all__ = ["SnapshotSchedule", "due"]

_LOOK_SECONDS = 5.0
# After one that failed: soon enough to matter, too late to be a storm.
_RETRY_SECONDS = 300.0


def due(begun_at: float, newest: float | None, tried_at: float | None, *, every: float, now: float) -> bool:
    """Whether a running lineage wants its next snapshot. `every` 0 is never."""
    if every <= 0:
        return False
    if tried_at is not None and now - tried_at < min(every, _RETRY_SECONDS):
        return False
    return now - max(begun_at, newest or 0.0) >= every


class SnapshotSchedule:
    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        leads: Callable[[], bool],
        journal: Journal,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._store = store
        self._leads = leads
        self._journal = journal
        self._wall = wall
        self._tried: dict[str, float] = {}

    def start(self) -> None:
        threading.Thread(target=self._run, name="snapshots", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Take what is due. One stream's trouble is told, and is not another's."""
        if not self._leads():
            return
        try:
            records = self._store.streams()
        except Exception as error:  # noqa: BLE001 - nobody would see that the thread has ended
            self._journal.write("snapshots wait", level="warning", error=_told(error))
            return
        for record in records:
            try:
                if record.phase is Phase.RUNNING and self._due(record):
                    self._tried[record.stream] = self._wall()
                    take(self._settings, self._store, record.pipeline, actor="supervisor", reason="schedule")
            except Exception as error:  # noqa: BLE001 - Delta's own are no ValueError, and end no other's
                self._journal.write(
                    "snapshot failed", level="error", stream=record.stream, error=_told(error)
                )

    def _due(self, record: StreamRecord) -> bool:
        layout = CheckpointLayout(self._settings.checkpoints, record.pipeline)
        current = layout.current_lineage()
        if current is None:
            return False
        newest = next(iter(find_snapshots(self._settings.snapshots_root, record.pipeline)), None)
        return due(
            read_lineage(layout, current).begun_at,
            newest.taken_at if newest is not None else None,
            self._tried.get(record.stream),
            every=self._settings.snapshots.every,
            now=self._wall(),
        )


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, HeadgateError) else repr(error)
