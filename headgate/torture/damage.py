"""Damages the newest offsets file as a crash of the machine can, and mends it as an operator may."""

from __future__ import annotations

from pathlib import Path

from deltalake import DeltaTable

from headgate.checkpoints.layout import (
    RECORDS,
    CheckpointLayout,
    quarantine_table,
    table_path,
    transaction_id,
)
from headgate.checkpoints.logs import newest
from headgate.contract.frozen import FrozenContract
from headgate.errors import RefusedError
from headgate.settings import Settings
from headgate.tables.place import on_disk

__all__ = ["cut", "remedy"]


def cut(query: Path, keep: float) -> Path:
    """Cut the newest offsets file, which no commit goes with, to a share of its bytes; the file."""
    number = newest(query / "offsets")
    if number is None or (query / "commits" / str(number)).exists():
        raise RefusedError(f"there is no batch under way in {query}")
    file = query / "offsets" / str(number)
    data = file.read_bytes()
    file.write_bytes(data[: round(len(data) * keep)])
    # Hadoop's checksum beside it would tell of the damage first; a crash may leave none.
    (file.parent / f".{file.name}.crc").unlink(missing_ok=True)
    return file


def remedy(settings: Settings, frozen: FrozenContract, query: Path, file: Path) -> None:
    """Remove a damaged newest offsets file, so that its batch is planned anew.

    Raises RefusedError where a commit goes with it, or a table already holds its batch: planned anew it
    would stand for other records, and the table would skip them.
    """
    number = int(file.name)
    if (query / "commits" / file.name).exists():
        raise RefusedError(f"batch {number} is committed, its offsets cannot be removed")
    holding = [table.name for table, done in _tables(settings, frozen) if done is not None and done >= number]
    if holding:
        raise RefusedError(f"batch {number} is in {', '.join(holding)}: its offsets are needed as they were")
    file.unlink()


def _tables(settings: Settings, frozen: FrozenContract) -> list[tuple[Path, int | None]]:
    """Every table that the record query writes, and its newest batch there."""
    lineage = CheckpointLayout(settings.checkpoints, frozen.pipeline).current_lineage()
    tables = on_disk(settings.tables, "a torture installation")
    found = [
        (table_path(tables, frozen.pipeline, target.delta), name)
        for name in frozen.record_outputs
        for target in frozen.contract.outputs[name].to
        if target.delta
    ]
    quarantine = quarantine_table(tables, frozen.pipeline)
    found += [(quarantine, f"_quarantine.{source}") for source in frozen.contract.sources]
    return [
        (
            path,
            DeltaTable(str(path)).transaction_version(
                transaction_id(frozen.pipeline, RECORDS, output, str(lineage))
            ),
        )
        for path, output in found
    ]
