"""What the tasks of one query have judged, noted for another query that reads the same records.

A stretch is a run of consecutive offsets of a partition with what is not simply good in it: bad records with
their reasons, doubtful ones as they came, and where a rule was broken that only warns. It can be cut at any
offset, so it serves whatever batches the other query has. It says from which time of a batch on its verdicts
are those of any query. Not noted is where they never are, and where a rule was broken that stops the stream.

    <mark>.<partition>.<first offset>.<offset behind the last>.<bytes>.<from>.<rows>.arrow

The bytes are those of all its records; a part of a stretch has its share of them. Without rows the file is
empty.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from headgate.arrow.screen import BAD, GOOD, RAW, READ, WARNED, ForOthers, Judged, record_bytes

__all__ = [
    "NOTED",
    "Cover",
    "Gap",
    "Stretch",
    "StretchNotes",
    "cover",
    "noted_stretches",
    "read_rows",
    "tally",
]

# A record that is not good, with its reasons; doubtful ones have none. Or what a record has broken that is
# `warned` of: without what it holds, and whether or not it is good.
NOTED = RAW.append(pa.field("reasons", pa.list_(pa.field("item", pa.string())))).append(
    pa.field("warned", pa.bool_())
)
NOTE_BYTES = 8 * 1024 * 1024  # of such records, that a task holds at most before it notes them
_SUFFIX, _DRAFT = ".arrow", ".draft"

Ranges = Mapping[int, tuple[int, int]]  # partition to its first offset and the one behind its last


@dataclass(frozen=True, slots=True)
class Stretch:
    path: Path
    partition: int
    first: int
    behind: int
    record_bytes: int  # of keys and values
    holds_from: int  # the earliest time of a batch, in microseconds, at which its verdicts hold
    rows: int
    size: int

    def part(self, first: int, behind: int) -> Stretch:
        share = (behind - first) / (self.behind - self.first)
        return replace(self, first=first, behind=behind, record_bytes=round(self.record_bytes * share))


@dataclass(frozen=True, slots=True)
class Gap:
    partition: int
    first: int
    behind: int


@dataclass(frozen=True, slots=True)
class Cover:
    """What stretches are of the ranges of a batch: parts of them, each offset once, and what is missing."""

    parts: tuple[Stretch, ...]
    gaps: tuple[Gap, ...]

    @property
    def missing(self) -> int:
        return sum(gap.behind - gap.first for gap in self.gaps)


class StretchNotes:
    """Notes stretches from a task, which reads one partition in the order of its offsets."""

    def __init__(self, folder: Path, mark: str) -> None:
        self._folder, self._mark = folder, mark
        self._partition = self._first = self._behind = -1
        self._rows: list[pa.Table] = []
        self._bytes = self._record_bytes = self._holds_from = 0

    def take(self, records: pa.Table, judged: Judged) -> None:
        """One batch of the task, and what it was judged as."""
        if not records.num_rows:
            return
        others = judged.others
        holds_from = None if others is None or judged.refused else others.holds_from
        run = None if holds_from is None else _run(records)
        if run is None or (run[0], run[1]) != (self._partition, self._behind):
            self.end()
        if run is None or others is None or holds_from is None:
            return
        if self._behind < 0:
            self._partition, self._first = run[0], run[1]
        self._behind = run[2]
        self._record_bytes += record_bytes(records)
        self._holds_from = max(self._holds_from, holds_from)
        rows = _noted(judged, others)
        if rows.num_rows:
            self._rows.append(rows)
            self._bytes += rows.nbytes
        if self._bytes > NOTE_BYTES:
            self.end()

    def end(self) -> None:
        """Note what has come so far."""
        if self._behind >= 0:
            place = (self._partition, self._first, self._behind)
            _write(self._folder, self._mark, (*place, self._record_bytes, self._holds_from), self._rows)
        self._partition = self._first = self._behind = -1
        self._rows, self._bytes, self._record_bytes, self._holds_from = [], 0, 0, 0


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


def _noted(judged: Judged, others: ForOthers) -> pa.Table:
    return pa.concat_tables(
        [
            _as_noted(judged.bad, warned=False),
            _as_noted(judged.doubtful, warned=False),
            _as_noted(others.warned, warned=True),
        ]
    )


def _as_noted(rows: pa.Table, *, warned: bool) -> pa.Table:
    """In the columns of NOTED; what the rows do not have is NULL."""
    count = rows.num_rows
    found = {name: rows.column(name) for name in rows.column_names}
    found["warned"] = pa.chunked_array([pa.repeat(pa.scalar(warned), count)])
    columns = [
        found[field.name].cast(field.type) if field.name in found else pa.nulls(count, field.type)
        for field in NOTED
    ]
    return pa.table(columns, schema=NOTED)


def _write(folder: Path, mark: str, place: tuple[int, ...], rows: Sequence[pa.Table]) -> None:
    """A task that is repeated writes the same again."""
    count = sum(each.num_rows for each in rows)
    draft = folder / f"{mark}.{uuid.uuid4().hex}{_DRAFT}"
    try:
        with draft.open("wb") as stream:
            if count:
                with pa.ipc.new_file(stream, NOTED) as writer:
                    for each in rows:
                        writer.write_table(each)
        draft.replace(folder / f"{mark}.{'.'.join(map(str, (*place, count)))}{_SUFFIX}")
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def noted_stretches(folder: Path, mark: str) -> list[Stretch]:
    """All that were noted under this mark and are whole. One that goes away meanwhile is none."""
    found = []
    for path in folder.glob(f"{mark}.*{_SUFFIX}"):
        told = path.name.removeprefix(f"{mark}.").removesuffix(_SUFFIX)
        with suppress(FileNotFoundError):
            found.append(Stretch(path, *_numbers(told), path.stat().st_size))
    return found


def _numbers(told: str) -> tuple[int, int, int, int, int, int]:
    partition, first, behind, size, holds_from, rows = map(int, told.split("."))
    return partition, first, behind, size, holds_from, rows


def cover(stretches: Iterable[Stretch], wanted: Ranges, now: int) -> Cover:
    """What stretches say of a batch whose time is `now`, in microseconds."""
    by_partition: dict[int, list[Stretch]] = {}
    for each in sorted(stretches, key=lambda stretch: (stretch.first, -stretch.behind)):
        if each.holds_from <= now:
            by_partition.setdefault(each.partition, []).append(each)
    parts: list[Stretch] = []
    gaps: list[Gap] = []
    for partition, (first, behind) in wanted.items():
        place = first
        for each in by_partition.get(partition, ()):
            start, end = max(each.first, place), min(each.behind, behind)
            if start >= end:
                continue
            if start > place:
                gaps.append(Gap(partition, place, start))
            parts.append(each.part(start, end))
            place = end
        if place < behind:
            gaps.append(Gap(partition, place, behind))
    return Cover(tuple(parts), tuple(gaps))


def read_rows(parts: Iterable[Stretch]) -> pa.Table:
    """What these parts have in the columns of NOTED. Raises OSError, pyarrow.ArrowInvalid."""
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
    warned = rows.column("warned")
    breaches, own = rows.filter(warned), rows.filter(pc.invert(warned))
    doubtful = own.column("reasons").null_count
    bad = own.num_rows - doubtful
    counts = Counter({READ: records - doubtful, GOOD: records - doubtful - bad, BAD: bad})
    counts[WARNED] = breaches.num_rows
    for reasons in rows.column("reasons").drop_null().to_pylist():
        counts.update(reasons)
    return counts
