"""Where the records of a batch are in its bytes: those of a registry without their frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from headgate.formats.avro_binary import MalformedError
from headgate.formats.lockstep import Buffer, Mask, Places
from headgate.formats.wire import split

__all__ = ["Framed", "Records", "framed", "plain"]

_HEAD = 5
_ID = np.dtype(">u4")


@dataclass(frozen=True, slots=True)
class Records:
    """`rows` are their places in the batch, in order; `starts` and `ends` those of their bytes."""

    buffer: Buffer
    rows: Places
    starts: Places
    ends: Places

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, kept: Mask | Places) -> Records:
        return Records(self.buffer, self.rows[kept], self.starts[kept], self.ends[kept])

    def without(self, taken: Sequence[Places]) -> Records:
        left = np.ones(len(self.rows), np.bool_)
        for places in taken:
            left[places] = False
        return self.only(left)

    def each(self) -> Iterator[tuple[int, bytes]]:
        """The records' places and their bytes."""
        view = self.buffer.data.data
        bounds = zip(self.starts.tolist(), self.ends.tolist(), strict=True)
        for row, (start, end) in zip(self.rows.tolist(), bounds, strict=True):
            yield row, bytes(view[start:end])


@dataclass(frozen=True, slots=True)
class Framed:
    """Records with their schemas' ids, and their messages' paths as indexes into `paths`: none for Avro."""

    records: Records
    ids: Places
    path_of: Places
    paths: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def distinct_ids(self) -> set[int]:
        return set(np.unique(self.ids).tolist())

    def groups(self) -> Iterator[tuple[int, tuple[int, ...], Records]]:
        """The records of each schema and message."""
        keys = self.ids << 32 | self.path_of
        order = np.argsort(keys, kind="stable")  # within a group they stay in the batch's order
        first = np.flatnonzero(np.diff(keys[order], prepend=keys[order][:1] ^ 1))
        for rows in np.split(order, first[1:]) if len(first) else []:
            path = self.paths.get(int(self.path_of[rows[0]]), ())
            yield int(self.ids[rows[0]]), path, self.records.only(rows)

    def of(self, ids: Iterable[int]) -> Framed:
        """Those of some schemas."""
        kept = np.isin(self.ids, np.fromiter(ids, np.int64))
        if kept.all():
            return self
        return Framed(self.records.only(kept), self.ids[kept], self.path_of[kept], self.paths)


def plain(values: pa.Array) -> Records:
    """Of values of type binary; those that are null are none."""
    if values.type != pa.binary():  # Spark may be told to have long offsets
        values = values.cast(pa.binary())
    _, offsets, data = values.buffers()
    if not len(values) or offsets is None:
        bounds = np.zeros(len(values) + 1, np.int64)
    else:
        every = np.frombuffer(offsets, np.int32, len(values) + 1, offset=4 * values.offset)
        bounds = every.astype(np.int64)
    first, last = int(bounds[0]), int(bounds[-1])
    source = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[first:last]
    bounds -= first
    records = Records(Buffer(source), np.arange(len(values)), bounds[:-1], bounds[1:])
    if not values.null_count:
        return records
    return records.only(values.is_valid().to_numpy(zero_copy_only=False))


def framed(values: Records, *, with_path: bool) -> Framed:
    """Those that are in the registry's wire format."""
    data = values.buffer.data
    whole = values.ends - values.starts >= _HEAD
    values = values.only(whole & (data[values.starts] == 0))
    ids = values.buffer.at(values.starts + 1, _ID).astype(np.int64)
    if not with_path:
        starts = values.starts + _HEAD
        return Framed(Records(values.buffer, values.rows, starts, values.ends), ids, np.zeros_like(ids))
    return _with_paths(values, ids)


def _with_paths(values: Records, ids: Places) -> Framed:
    """A path of one message, which is what nearly all have, is read at a glance: [0] is no path at all."""
    data, at = values.buffer.data, values.starts + _HEAD
    count, index = data[at], data[at + 1]
    first = (count == 0) & (at < values.ends)
    one = (count == 2) & (index < 0x80) & (at + 1 < values.ends)
    starts = at + np.where(one, 2, 1)
    path_of = np.where(one, index, 0).astype(np.int64)
    paths: dict[int, tuple[int, ...]] = {each: ((each >> 1) ^ -(each & 1),) for each in range(0x80)}
    kept = first | one
    others: dict[tuple[int, ...], int] = {}
    left = np.flatnonzero(~kept)
    for place, (_, value) in zip(left.tolist(), values.only(left).each(), strict=True):
        try:
            found = split(value, with_path=True)
        except (MalformedError, IndexError):
            continue
        kept[place] = True
        starts[place] = values.ends[place] - len(found.body)
        path_of[place] = others.setdefault(found.path, len(paths) + len(others))
    paths |= {number: path for path, number in others.items()}
    moved = Records(values.buffer, values.rows, starts, values.ends).only(kept)
    return Framed(moved, ids[kept], path_of[kept], paths)
