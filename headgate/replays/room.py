"""Whether the disk has room for what a replay would write, judged by what the live stream has written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from headgate.checkpoints.books import last_page
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.logs import committed_offsets
from headgate.contract.frozen import FrozenContract
from headgate.errors import RefusedError
from headgate.settings import Settings
from headgate.tables.place import on_disk
from headgate.topics.tables import desired_tables

__all__ = ["bytes_per_record", "room_problems"]

_MB = 1024 * 1024
# Tables are only a part: upserts keep what they replaced, and the checkpoint holds the windows' state.
_BESIDE_TABLES = 1.5
# The live stream, too, writes on while the replay runs.
_LEFT_FREE = 512 * _MB


def room_problems(settings: Settings, frozen: FrozenContract, records: int, folder: Path) -> list[str]:
    """Why `records` records of a replay into `folder` do not fit; nothing where no batch tells their size."""
    size = bytes_per_record(settings, frozen)
    if size is None:
        return []
    needed = int(records * size * _BESIDE_TABLES) + _LEFT_FREE
    free = shutil.disk_usage(_existing(folder)).free
    if needed <= free:
        return []
    return [
        f"{records} records would need about {needed // _MB:,} MB, by what the live tables hold for each "
        f"record that was read, and {free // _MB:,} MB are free below {_existing(folder)}"
    ]


def bytes_per_record(settings: Settings, frozen: FrozenContract) -> float | None:
    """Bytes in the live tables' current files for each record read, over all lineages."""
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    read = sum(_read(layout))
    if not read:
        return None
    folders = (
        on_disk(settings.tables, "a replay") / table.pipeline / table.table
        for table in desired_tables(frozen)
    )
    return sum(map(_size, folders)) / read


def _read(layout: CheckpointLayout) -> Iterator[int]:
    for note in layout.folder.glob("*/lineage.json"):
        lineage = note.parent.name
        try:
            committed = committed_offsets(layout.query(lineage, RECORDS))
            page = last_page(layout.books(lineage), committed.batch_id) if committed is not None else None
        except RefusedError:
            continue  # a damaged lineage: the others tell enough
        if page is not None:
            yield page.total.read


def _size(folder: Path) -> int:
    try:
        sizes = pa.table(DeltaTable(folder).get_add_actions(flatten=True)).column("size_bytes")
    except (TableNotFoundError, DeltaError, OSError):
        return 0  # a table that cannot be read is told by the plan of its contract
    return sum(sizes.to_pylist())


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.is_dir())
