"""Reads many records at once: each step takes the same part of all of them, with numpy.

What goes past its record's end, or is not of the plain shape that is surely read alike, is not `ok`. Such a
record is left to what reads one record at a time, which says what is wrong with it. So nothing here raises,
and nothing is allocated by what a record claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Buffer", "Lanes", "Mask", "Numbers", "Places", "Steps", "Vector", "binaries", "texts", "unzigzag"]

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[Any]
Places = npt.NDArray[np.int64]

_PADDING = 16  # a place may be a record's end, and whatever is read there must be in the buffer
_WORD = np.dtype("<u8")
_STOPS = np.uint64(0x8080_8080_8080_8080)
# How the seven bits of each of eight bytes are moved together: two by two, with half as many gaps each time.
_SQUEEZE = tuple(
    (np.uint64(low), np.uint64(high), np.uint64(shift))
    for low, high, shift in (
        (0x007F_007F_007F_007F, 0x7F00_7F00_7F00_7F00, 1),
        (0x0000_3FFF_0000_3FFF, 0x3FFF_0000_3FFF_0000, 2),
        (0x0000_0000_0FFF_FFFF, 0x0FFF_FFFF_0000_0000, 4),
    )
)
_ONE = np.uint64(1)
_REPLACED = "\N{REPLACEMENT CHARACTER}"
_STEPS = 64  # are allowed to any block
_FEW = 4  # of so many records one is too few to take the others along
_WORTH = 64  # records that a further step should have on average


class Buffer:
    """Bytes of a batch's records, to be looked at from any place of them."""

    def __init__(self, source: Numbers) -> None:
        self.data: npt.NDArray[np.uint8] = np.zeros(len(source) + _PADDING, np.uint8)
        self.data[: len(source)] = source
        self._views: dict[Any, Numbers] = {}

    def at(self, places: Places, dtype: np.dtype[Any]) -> Numbers:
        """The number that begins at each of the places."""
        view = self._views.get(dtype)
        if view is None:
            room = len(self.data) - dtype.itemsize + 1
            view = self._views[dtype] = np.ndarray((room,), dtype, self.data, strides=(1,))
        found: Numbers = view[places]
        return found


@dataclass(slots=True)
class Vector:
    """Of each record a number; or bytes, from the place `numbers` to `ends`. `present` is None where all
    records have one. `per_second` is the unit of moments that are not in that of their shape."""

    numbers: Numbers
    ends: Places | None = None
    present: Mask | None = None
    per_second: int | None = None

    def only(self, rows: Places) -> Vector:
        ends = None if self.ends is None else self.ends[rows]
        present = None if self.present is None else self.present[rows]
        return Vector(self.numbers[rows], ends, present, self.per_second)


class Steps:
    """What a block may still cost, whatever is inside what in its records: a step for few of them is dearer
    than reading these one at a time."""

    def __init__(self) -> None:
        self._left = _STEPS * _WORTH

    def worth(self, records: int) -> bool:
        """Whether a step for so many records may be taken; one for many always is."""
        if records < _WORTH and self._left < _WORTH:
            return False
        self._left += records - _WORTH
        return True


class Lanes:
    """Where the reading of each record is, and where the record ends. What is not `ok` stands still, or is
    moved about between its bytes: what is read there has no meaning. `rows` are the places that these records
    had at first, None where none was taken out."""

    def __init__(
        self, buffer: Buffer, at: Places, end: Places, ok: Mask | None = None, steps: Steps | None = None
    ) -> None:
        self.buffer, self.at, self.end = buffer, at, end
        self.ok: Mask = np.ones(len(at), np.bool_) if ok is None else ok
        self.steps = Steps() if steps is None else steps
        self.rows: Places | None = None

    def fail(self, odd: Mask) -> None:
        if odd.any():
            self.ok &= ~odd

    def unread(self) -> None:
        """Those that are not read to their ends are odd."""
        self.fail(self.at != self.end)

    def narrow(self, one_in: int = _FEW) -> Places | None:
        """Goes on with those that are `ok` alone where these are fewer than one in so many, and says which
        they were: for what is not `ok` each step costs as much."""
        if np.count_nonzero(self.ok) * one_in >= len(self.ok):
            return None
        kept = np.flatnonzero(self.ok)
        self.at, self.end, self.ok = self.at[kept], self.end[kept], self.ok[kept]
        self.rows = kept if self.rows is None else self.rows[kept]
        return kept

    def only(self, rows: Places) -> Lanes:
        return Lanes(self.buffer, self.at[rows], self.end[rows], self.ok[rows], self.steps)

    def apart(self) -> Lanes:
        """The same records, to be narrowed and joined again."""
        return Lanes(self.buffer, self.at, self.end, self.ok.copy(), self.steps)

    def inside(self, bounds: Vector) -> Lanes:
        """What each record has between its bounds, which `join` takes back at their ends."""
        assert bounds.ends is not None, "numbers have no inside"
        return Lanes(self.buffer, bounds.numbers, bounds.ends, self.ok.copy(), self.steps)

    def join(self, part: Lanes) -> None:
        if part.rows is None:
            self.at, self.ok = part.at, part.ok
            return
        self.ok[:] = False
        self.put(part.rows, part)

    def put(self, rows: Places, part: Lanes) -> None:
        """Take back what `only` gave out."""
        self.at = self.at.copy()  # it may be where somebody's bytes begin
        self.at[rows] = part.at
        self.ok[rows] = part.ok

    def skip(self, sizes: Any) -> None:
        at = self.at + sizes
        past = at > self.end
        if past.any():
            self.ok &= ~past
            at = np.minimum(at, self.end)
        self.at = at

    def varint(self) -> npt.NDArray[np.uint64]:
        """Seven bits in each byte, the lowest first: 64 bits at most."""
        first = self.buffer.data[self.at]
        if not (first & 0x80).any():
            self.skip(1)
            return first.astype(np.uint64)
        word = self.buffer.at(self.at, _WORD)
        stops = ~word & _STOPS
        kept = stops ^ (stops - _ONE)  # all bits up to the first stop; all of them where there is none
        word &= kept
        for low, high, shift in _SQUEEZE:
            word = (word & low) | ((word & high) >> shift)
        sizes = (np.bitwise_count(kept) >> 3).astype(np.int64)
        longer = np.flatnonzero(stops == 0)
        if len(longer):
            self._longer(word, sizes, longer)
        self.skip(sizes)
        return word

    def _longer(self, word: npt.NDArray[np.uint64], sizes: Places, rows: Places) -> None:
        """The ninth byte, and a tenth that has one bit."""
        ninth = self.buffer.data[self.at[rows] + 8].astype(np.uint64)
        tenth = self.buffer.data[self.at[rows] + 9].astype(np.uint64)
        ten = ninth > 0x7F
        tenth[~ten] = 0
        odd = np.zeros(len(word), np.bool_)
        odd[rows] = tenth > 1
        self.fail(odd)
        word[rows] |= (ninth & np.uint64(0x7F)) << np.uint64(56) | tenth << np.uint64(63)
        sizes[rows] = np.where(ten, 10, 9)

    def zigzag(self) -> npt.NDArray[np.int64]:
        return unzigzag(self.varint())

    def fixed(self, dtype: np.dtype[Any]) -> Numbers:
        found = self.buffer.at(self.at, dtype)
        self.skip(dtype.itemsize)
        return found

    def taken(self, sizes: Any) -> Vector:
        """So many bytes; none where there are not as many."""
        odd = (sizes < 0) | (sizes > self.end - self.at)
        if np.any(odd):
            self.fail(odd)
            sizes = np.where(odd, 0, sizes)
        begin = self.at
        self.at = begin + sizes
        return Vector(begin, self.at)

    def spread(self, vector: Vector, rows: Places) -> Vector:
        """A vector over some of the records as one over all, absent in the others."""
        present = np.zeros(len(self.at), np.bool_)
        present[rows] = True if vector.present is None else vector.present
        if vector.ends is None:
            numbers = np.zeros(len(self.at), vector.numbers.dtype)
            numbers[rows] = vector.numbers
            return Vector(numbers, None, present, vector.per_second)
        starts, ends = self.at.copy(), self.at.copy()
        starts[rows] = vector.numbers
        ends[rows] = vector.ends
        return Vector(starts, ends, present)


def unzigzag(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The sign is the lowest bit."""
    return (numbers >> _ONE).view(np.int64) ^ -(numbers & _ONE).view(np.int64)


def binaries(lanes: Lanes, vector: Vector) -> pa.Array:
    """Every second piece of the buffer, between the bounds, is a record's: Arrow copies these out."""
    assert vector.ends is not None, "numbers are not bytes"
    bounds = np.empty(2 * len(vector.numbers) + 1, np.int32)
    bounds[:-1:2], bounds[1::2] = vector.numbers, vector.ends
    bounds[-1] = bounds[-2] if len(bounds) > 1 else 0
    pieces = pa.Array.from_buffers(
        pa.binary(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(lanes.buffer.data)]
    )
    wanted = np.arange(0, len(bounds) - 1, 2)
    mask = None if vector.present is None else ~vector.present
    return pieces.take(pa.array(wanted, mask=mask))


def texts(lanes: Lanes, vector: Vector) -> pa.Array:
    """Those of records that have bytes there which are no UTF-8 are null, and the record is not `ok`."""
    found = binaries(lanes, vector)
    try:
        return found.cast(pa.string())
    except pa.ArrowInvalid:
        fine = np.fromiter(_are_texts(found), np.bool_, len(found))
        lanes.fail(~fine)
        return pc.if_else(pa.array(fine), found, pa.scalar(None, pa.binary())).cast(pa.string())


def _are_texts(found: pa.Array) -> Iterator[bool]:
    _, offsets, data = found.buffers()
    bounds = np.frombuffer(offsets, np.int32, len(found) + 1, offset=4 * found.offset).tolist()
    whole = data.to_pybytes()
    for begin, end in pairwise(bounds):
        yield _is_text(whole[begin:end])


def _is_text(piece: bytes) -> bool:
    """Nothing is raised for most of what is no text, since that is slow; only what has the sign that stands
    for such bytes has to be looked at twice."""
    if _REPLACED not in piece.decode("utf-8", "replace"):
        return True
    if _REPLACED.encode() not in piece:
        return False
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True
