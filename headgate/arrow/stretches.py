"""What the tasks of one query have judged, noted for another query that reads the same records.

A stretch is a run of consecutive offsets of a partition with what is not good in it: bad records with their
reasons, doubtful ones as they came. All others are good. It can be cut at any offset, so it serves whatever
batches the other query has. A stretch is only noted where its verdict is nobody else's: no rule was broken
that does not send a record to the quarantine, and no record is ahead of the batch's own time.

    <mark>.<partition>.<first offset>.<offset behind the last>.<bytes>.<rows>.arrow     empty without rows

The bytes are those of all its records; a part of a stretch has its share of them.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from headgate.arrow.screen import BAD, GOOD, RAW, READ, WARNED, Judged, record_bytes

__all__ = ["NOTED", "Stretch", "StretchNotes", "covering", "noted_stretches", "read_rows", "tally"]

# A record of the stretch that is not good; doubtful ones have no reasons.
NOTED = RAW.append(pa.field("reasons", pa.list_(pa.field("item", pa.string()))))
NOTE_BYTES = 8 * 1024 * 1024  # of such records, that a task holds at most before it notes them
_SUFFIX = ".arrow"

Ranges = Mapping[int, tuple[int, int]]  # partition to its first offset and the one behind its last


@dataclass(frozen=True, slots=True)
class Stretch:
    path: Path
    partition: int
    first: int
    behind: int
    record_bytes: int  # of keys and values
    rows: int
    size: int

    def part(self, first: int, behind: int) -> Stretch:
        share = (behind - first) / (self.behind - self.first)
        return replace(self, first=first, behind=behind, record_bytes=round(self.record_bytes * share))


class StretchNotes:
    """Notes stretches from a task, which reads one partition in the order of its offsets."""

    def __init__(self, folder: Path, mark: str, refused: Iterable[str]) -> None:
        """`refused`: the rules whose breach is not the quarantine's."""
        self._folder, self._mark, self._refused = folder, mark, tuple(refused)
        self._partition = self._first = self._behind = -1
        self._rows: list[pa.Table] = []
        self._bytes = self._record_bytes = 0

    def take(self, records: pa.Table, judged: Judged) -> None:
        """One batch of the task, and what it was judged as."""
        if not records.num_rows:
            return
        run = _run(records) if self._is_own(records, judged) else None
        if run is None or (run[0], run[1]) != (self._partition, self._behind):
            self.end()
        if run is None:
            return
        if self._behind < 0:
            self._partition, self._first = run[0], run[1]
        self._behind = run[2]
        self._record_bytes += record_bytes(records)
        rows = _noted(judged)
        if rows.num_rows:
            self._rows.append(rows)
            self._bytes += rows.nbytes
        if self._bytes > NOTE_BYTES:
            self.end()

    def end(self) -> None:
        """Note what has come so far."""
        if self._behind >= 0:
            place = (self._partition, self._first, self._behind, self._record_bytes)
            _write(self._folder, self._mark, place, self._rows)
        self._partition = self._first = self._behind = -1
        self._rows, self._bytes, self._record_bytes = [], 0, 0

    def _is_own(self, records: pa.Table, judged: Judged) -> bool:
        if judged.counts[WARNED] or any(judged.counts[rule] for rule in self._refused):
            return False
        early = pc.less_equal(records.column("_arrival"), records.column("_now"))
        return bool(pc.all(early, skip_nulls=False).as_py())


def _run(records: pa.Table) -> tuple[int, int, int] | None:
    """Partition, first offset and the one behind the last; None where they do not follow one another."""
    partitions, offsets = pc.min_max(records.column("_partition")), records.column("_offset")
    first, last = offsets[0].as_py(), offsets[-1].as_py()
    if partitions["min"] != partitions["max"] or last - first + 1 != records.num_rows:
        return None
    steps = pc.subtract(offsets.slice(1), offsets.slice(0, records.num_rows - 1))
    if records.num_rows > 1 and not pc.all(pc.equal(steps, 1)).as_py():
        return None
    return partitions["min"].as_py(), first, last + 1


def _noted(judged: Judged) -> pa.Table:
    left = judged.doubtful.append_column(
        "reasons", pa.nulls(judged.doubtful.num_rows, NOTED.field("reasons").type)
    )
    return pa.concat_tables([judged.bad.select(NOTED.names).cast(NOTED), left.cast(NOTED)])


def _write(folder: Path, mark: str, place: tuple[int, ...], rows: Sequence[pa.Table]) -> None:
    """A task that is repeated writes the same again."""
    count = sum(each.num_rows for each in rows)
    draft = folder / f".{uuid.uuid4().hex}"
    with draft.open("wb") as stream:
        if count:
            with pa.ipc.new_file(stream, NOTED) as writer:
                for each in rows:
                    writer.write_table(each)
    draft.replace(folder / f"{mark}.{'.'.join(map(str, (*place, count)))}{_SUFFIX}")


def noted_stretches(folder: Path, mark: str) -> list[Stretch]:
    """All that were noted under this mark and are whole."""
    found = []
    for path in folder.glob(f"{mark}.*{_SUFFIX}"):
        told = path.name.removeprefix(f"{mark}.").removesuffix(_SUFFIX)
        partition, first, behind, size, rows = map(int, told.split("."))
        found.append(Stretch(path, partition, first, behind, size, rows, path.stat().st_size))
    return found


def covering(stretches: Iterable[Stretch], wanted: Ranges) -> list[Stretch] | None:
    """Parts of stretches that together are these ranges, each offset once; None where one is missing."""
    by_partition: dict[int, list[Stretch]] = {}
    for each in sorted(stretches, key=lambda stretch: (stretch.first, -stretch.behind)):
        by_partition.setdefault(each.partition, []).append(each)
    found: list[Stretch] = []
    for partition, (first, behind) in wanted.items():
        place = first
        for each in by_partition.get(partition, ()):
            if each.first <= place < min(each.behind, behind):
                found.append(each.part(place, min(each.behind, behind)))
                place = found[-1].behind
        if place < behind:
            return None
    return found


def read_rows(parts: Iterable[Stretch]) -> pa.Table:
    """The records of these parts that are not good, in the columns of NOTED."""
    tables = [NOTED.empty_table()]
    for part in parts:
        if part.rows:
            with pa.OSFile(str(part.path)) as file:
                rows = pa.ipc.open_file(file).read_all()
            places = rows.column("_offset")
            inside = pc.and_(pc.greater_equal(places, part.first), pc.less(places, part.behind))
            tables.append(rows.filter(inside))
    return pa.concat_tables(tables).combine_chunks()


def tally(parts: Iterable[Stretch], rows: pa.Table) -> Counter[str]:
    """The counts of these parts as `Screen` has them; `rows` are theirs."""
    records = sum(part.behind - part.first for part in parts)
    doubtful = rows.column("reasons").null_count
    bad = rows.num_rows - doubtful
    counts = Counter({READ: records - doubtful, GOOD: records - doubtful - bad, BAD: bad})
    for reasons in rows.column("reasons").drop_null().to_pylist():
        counts.update(reasons)
    return counts
