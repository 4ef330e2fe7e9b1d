"""What an output's table counts, and up to where, at the newest version of which the books know everything.

Each query reads in its own time, and the output's may be ahead of the record query, whose books say what was
quarantined. The table is then read as it was before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from headgate.checkpoints.logs import batch_offsets, committed_offsets
from headgate.tables.delta import open_table
from headgate.tables.place import Place

__all__ = ["Counted", "NotComparable", "Offsets", "Ranges", "between", "counted_at"]

Offsets = Mapping[str, Mapping[int, int]]
Ranges = dict[tuple[str, int], tuple[int, int]]

# As far as Spark keeps the offsets of batches by default (spark.sql.streaming.minBatchesToRetain).
_VERSIONS_BACK = 100


class NotComparable(Enum):
    """Why there is no such version."""

    NOTHING = auto()  # the query has committed nothing yet
    AHEAD = auto()  # it is further ahead than what is kept


@dataclass(frozen=True, slots=True)
class Counted:
    """A table at one version, and the offsets up to which that counts."""

    table: DeltaTable
    offsets: Offsets


def counted_at(path: Place, query: Path, transaction: str, read: Offsets) -> Counted | NotComparable:
    """The newest version that counts nothing beyond `read`. `query` is its checkpoint, `transaction` the id
    under which its batches are in the table. Raises RefusedError for a damaged checkpoint."""
    mine = committed_offsets(
        query
    )  # before the table is opened: read after it, they could be a later batch's
    table = open_table(path)
    written = table.transaction_version(transaction)
    if mine is None and written is None:
        return NotComparable.NOTHING
    # A batch without rows is Spark's commit alone; one that Spark has not committed yet may be in the table.
    newest_is_sparks = mine is not None and (written is None or written <= mine.batch_id)
    if mine is not None and newest_is_sparks and not _ahead(mine.offsets, read):
        return Counted(table, mine.offsets)
    newest = table.version()
    for version in range(newest, max(newest - _VERSIONS_BACK, -1), -1):
        counted = _at_version(table, version, transaction, query)
        if counted is None:
            break
        if not _ahead(counted.offsets, read):
            return counted
    return NotComparable.AHEAD


def _at_version(table: DeltaTable, version: int, transaction: str, query: Path) -> Counted | None:
    """The table as it was; None where that is not kept any more: by its log, or of the batch by Spark."""
    if version != table.version():
        try:
            table.load_as_version(version)
        except DeltaError:
            return None
    batch_id = table.transaction_version(transaction)
    if batch_id is None or not (query / "offsets" / str(batch_id)).is_file():
        return None
    return Counted(table, batch_offsets(query, batch_id).offsets)


def _ahead(counted: Offsets, read: Offsets) -> bool:
    return any(first > last for first, last in between(counted, read).values())


def between(counted: Offsets, read: Offsets) -> Ranges:
    """Per partition the offsets that the record query has read and the output's query has not."""
    return {
        (topic, number): (counted.get(topic, {}).get(number, 0), offset)
        for topic, partitions in read.items()
        for number, offset in partitions.items()
    }
