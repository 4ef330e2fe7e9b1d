"""The status file of a driver that starts, for tests of what is reported there."""

from __future__ import annotations

from pathlib import Path

from headgate.streams.model import DriverStatus
from spark.progress import StatusFile

__all__ = ["status_file"]


def status_file(path: Path, epoch: int = 1) -> StatusFile:
    return StatusFile(
        path,
        DriverStatus(
            stream="s",
            pipeline="s",
            epoch=epoch,
            generation=1,
            contract_hash="h",
            lineage="",
            headgate_version="0",
            pid=1,
            phase="starting",
            written_at=0.0,
        ),
    )
