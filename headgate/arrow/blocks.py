"""Reads JSON values in blocks with Arrow's parser: fast, and only what it reads as Spark would.

The parser takes a stream of objects and says nothing of which value an object came from; it reads NaN; and
it dies of a stream with something else than objects in it. So a value comes to it only when it is shown to
be one object:

- by its braces: it begins with `{`, ends with `}` and has no other `}`. Whatever it holds, a first object
  cannot end before the value does. (And no NaN or Infinity is anywhere in the block.)
- else by a regular expression (`headgate.arrow.shapes`).

What neither shows is left, and so is what the parser stumbles over, one record at a time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from headgate.arrow.shapes import typed_object

__all__ = ["BlockReader", "Read"]

Rows = npt.NDArray[np.int64]
_Read = tuple[pa.Table, Rows]

BLOCK = 10_000
# Spark's parser has limits: 1,000 levels, 1,000 digits, names of 50,000 signs, texts of 20 million. A value
# that is shorter than the first of them keeps all; of a longer one they are checked: names of one that is
# LONG, and one that is longer than LONGEST is left.
SHORT, LONG, LONGEST = 1_000, 32_768, 8 * 1024 * 1024
_STRIDE = 100  # a number of 1,000 signs is met nine times in a row
_TRIES = 3
_AGAIN = 16  # blocks after one in which it stumbled over more than it has tries for
_FAILURES = 60  # of the parser, in one block; what is left then goes the slower road
_ROW = re.compile(r"in row (\d+)$")
_BRACE, _CLOSED, _N, _I, _QUOTE = b'{}NI"'
_AFTER_TEXT = b",}]"  # what shows that a text is no name
_NUMERIC = np.isin(np.arange(256), list(b"0123456789+-.eE"))


class Read:
    """What was read: a table, and which values its rows are. All others are left."""

    def __init__(self, schema: pa.Schema, parts: Sequence[_Read]) -> None:
        rows = [part[1] for part in parts]
        self.rows: Rows = np.concatenate(rows) if rows else np.empty(0, np.int64)
        self.table: pa.Table = pa.concat_tables([schema.empty_table(), *(part[0] for part in parts)])
        if not bool((np.diff(self.rows) > 0).all()):
            order = np.argsort(self.rows, kind="stable")
            self.rows, self.table = self.rows[order], self.table.take(pa.array(order))
        self.table = self.table.combine_chunks()


class BlockReader:
    """Reads values into the columns of one schema of scalars."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._typed = typed_object(schema)
        self._budget = 0
        self._options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        self._skip = 0  # blocks in which the parser is not tried on all that braces show

    def read(self, values: pa.Array) -> Read:
        """`values` are of type binary; nulls and what cannot be read are left."""
        parts: list[_Read] = []
        for first in range(0, len(values), BLOCK):
            block = values.slice(first, BLOCK)
            rows = np.flatnonzero(_eligible(block)).astype(np.int64)
            if len(rows) < len(block):
                block = block.take(pa.array(rows))
            parts.extend((table, found + first) for table, found in self._block(block, rows))
        return Read(self._schema, parts)

    def _block(self, values: pa.Array, rows: Rows) -> list[_Read]:
        if not len(rows):
            return []
        if self._skip:
            self._skip -= 1
            return self._by_pattern(values, rows)
        shown = _shown_by_braces(values)
        if not shown.any():
            return self._by_pattern(values, rows)
        others: list[_Read] = []
        if shown.all():
            found = self._parse_but(values, rows, _TRIES)
        else:
            found = self._parse_but(values.filter(pa.array(shown)), rows[shown], _TRIES)
            others = self._by_pattern(values.filter(pa.array(~shown)), rows[~shown])
        if found is None:
            self._skip = _AGAIN
            return self._by_pattern(values, rows)
        return [found, *others]

    def _by_pattern(self, values: pa.Array, rows: Rows) -> list[_Read]:
        """Read those that a regular expression shows to be objects of the schema."""
        typed = pc.match_substring_regex(values, self._typed)
        mask = typed.to_numpy(zero_copy_only=False)
        self._budget = _FAILURES
        return self._isolate(values.filter(typed), rows[mask])

    def _isolate(self, values: pa.Array, rows: Rows) -> list[_Read]:
        """Read all but what the parser stumbles over: it is named, or looked for by halves."""
        if not len(rows):
            return []
        found = self._parse_but(values, rows, _TRIES)
        if found is not None:
            return [found]
        self._budget -= 1
        if len(rows) == 1 or self._budget <= 0:
            return []
        half = len(rows) // 2
        return [
            *self._isolate(values.slice(0, half), rows[:half]),
            *self._isolate(values.slice(half), rows[half:]),
        ]

    def _parse_but(self, values: pa.Array, rows: Rows, tries: int) -> _Read | None:
        """Parse, without the values that the parser names; None when it names too many, or none."""
        for left in range(tries, -1, -1):
            if not len(rows):
                return self._schema.empty_table(), rows
            try:
                table = self._parse(values)
            except pa.ArrowInvalid as error:
                place = _ROW.search(str(error))
                if place is None or not left or int(place[1]) >= len(rows):
                    return None
                kept = np.arange(len(rows)) != int(place[1])
                values, rows = values.filter(pa.array(kept)), rows[kept]
                continue
            return (table, rows) if table.num_rows == len(rows) else None
        return None

    def _parse(self, values: pa.Array) -> pa.Table:
        end = pa.scalar(b"", pa.binary())
        lines = pc.binary_join_element_wise(values, end, pa.scalar(b"\n", pa.binary()))
        data = _bytes_of(lines)
        options = pj.ReadOptions(use_threads=False, block_size=data.size + 1)
        return pj.read_json(pa.BufferReader(data), read_options=options, parse_options=self._options)


def _eligible(values: pa.Array) -> npt.NDArray[np.bool_]:
    """Values that the parser may see, as far as bytes and lengths go."""
    lengths = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False)
    fit: npt.NDArray[np.bool_] = (lengths >= 2) & (lengths <= LONGEST)
    for row in np.flatnonzero(fit & (lengths > SHORT)):
        fit[row] = _within_limits(values[row].as_py())
    try:
        values.cast(pa.string())
    except pa.ArrowInvalid:
        for row in np.flatnonzero(fit):
            fit[row] = _is_utf8(values[row].as_py())
    return fit


def _within_limits(value: bytes) -> bool:
    if value.count(b"[") + value.count(b"{") >= SHORT:
        return False
    if len(value) > LONG and not _names_are_short(value):
        return False
    raw = np.frombuffer(value, np.uint8)
    # A sample is enough but for objects whose members are all as long as each other.
    if _run(_NUMERIC[raw[::_STRIDE]]) <= SHORT // _STRIDE - 3:
        return True
    return _run(_NUMERIC[raw]) <= SHORT - 3 * _STRIDE


def _run(mask: npt.NDArray[np.bool_]) -> int:
    """How many in a row there are at most."""
    return int(np.diff(np.flatnonzero(~np.concatenate([[False], mask, [False]]))).max()) - 1


def _names_are_short(value: bytes) -> bool:
    """Whether no name can be LONG: each text that is has behind it what no name has. Where a quote is escaped
    quotes do not tell where a text ends."""
    if b'\\"' in value:
        return False
    quotes = np.flatnonzero(np.frombuffer(value, np.uint8) == _QUOTE)
    ends = quotes[1:][np.diff(quotes) > LONG].tolist()
    return all(end + 1 < len(value) and value[end + 1] in _AFTER_TEXT for end in ends)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _shown_by_braces(values: pa.Array) -> npt.NDArray[np.bool_]:
    data = np.frombuffer(_bytes_of(values), np.uint8)
    ends = np.cumsum(pc.binary_length(values).to_numpy(zero_copy_only=False), dtype=np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    shown: npt.NDArray[np.bool_] = (data[starts] == _BRACE) & (data[ends - 1] == _CLOSED)
    closed = np.flatnonzero(data == _CLOSED)
    if not bool(shown.all()) or len(closed) != len(ends):
        shown &= np.searchsorted(closed, ends) - np.searchsorted(closed, starts) == 1
    if bool((data == _N).any() or (data == _I).any()):
        text = data.tobytes()
        shown &= b"NaN" not in text and b"Inf" not in text
    return shown


def _bytes_of(values: pa.Array) -> Any:
    """The bytes of all values, one behind the other."""
    _, offsets, data = values.buffers()
    bounds = np.frombuffer(offsets, np.int32)
    first, last = int(bounds[values.offset]), int(bounds[values.offset + len(values)])
    return data.slice(first, last - first)
