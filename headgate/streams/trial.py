"""Whether the contract that a stream has on trial can be taken back, by what its files say now."""

from __future__ import annotations

from collections.abc import Callable

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.wayback import WayBack, way_back
from headgate.settings import Settings
from headgate.streams.record import StreamRecord
from headgate.streams.upgrade import pending

__all__ = ["WayBackOf", "way_back_of"]

WayBackOf = Callable[[StreamRecord], WayBack]


def way_back_of(settings: Settings) -> WayBackOf:
    def look(record: StreamRecord) -> WayBack:
        trial = pending(record)
        if trial is None:
            return WayBack()
        layout = CheckpointLayout(settings.checkpoints, record.pipeline)
        return way_back(settings.snapshots_root, layout, trial.snapshot, trial.stable_hash)

    return look
