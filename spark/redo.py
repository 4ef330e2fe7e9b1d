"""Batches that run again after a restore, each with the very offsets that it had.

Spark by itself would run only the newest batch of its offset log again, and plan new ones for those
between. So each offset file is put in its place when it is that batch's turn, and Spark is asked for one
batch, which it must then take from the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.checkpoints.copying import copy_file
from headgate.errors import HeadgateError

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

    from spark.progress import StatusFile
    from spark.stop import StopGate

__all__ = ["one_batch", "redo", "waiting"]


def waiting(folder: Path) -> list[int]:
    """The batches that have yet to run again, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def redo(folder: Path, checkpoint: Path, run_one: Callable[[], None]) -> None:
    """Run them; `run_one` returns when Spark has ended after one batch. Cut off, it goes on from there."""
    for batch in waiting(folder):
        if not (checkpoint / "commits" / str(batch)).is_file():
            _place(folder / str(batch), checkpoint / "offsets" / str(batch))
            run_one()
        if not (checkpoint / "commits" / str(batch)).is_file():
            raise HeadgateError(
                f"batch {batch} of {checkpoint.name} ran again and was not committed",
                expected=f"{checkpoint / 'commits' / str(batch)}",
            )
        (folder / str(batch)).unlink()


def one_batch(query: StreamingQuery, gate: StopGate, status: StatusFile) -> None:
    """Wait for a batch that runs again. Raises StopRequestedError when a stop ended it."""
    while query.isActive:
        time.sleep(0.05)  # `awaitTermination` would raise before the gate is looked at
        status.refresh()
    if (error := query.exception()) is not None:
        gate.check()
        raise error


def _place(source: Path, target: Path) -> None:
    if target.is_file():
        return
    draft = target.with_name(f".{target.name}.redo.tmp")
    copy_file(source, draft)
    draft.replace(target)
