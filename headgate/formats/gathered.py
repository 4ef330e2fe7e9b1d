"""Parts of a batch, read in any order, as whole columns in the order of its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["Gathered"]


class Gathered:
    """Of so many records each is given once, or never: then it is broken."""

    def __init__(self, length: int, types: Sequence[pa.DataType]) -> None:
        self._types = types
        self._left = np.ones(length, np.bool_)
        self._rows: list[npt.NDArray[np.int64]] = []
        self._parts: list[Sequence[pa.Array]] = []
        self._marks: dict[int, list[int]] = {}  # the places of what is unreadable, by column

    def add_columns(self, rows: npt.NDArray[np.int64], columns: Sequence[pa.Array]) -> None:
        self._left[rows] = False
        self._rows.append(rows)
        self._parts.append(columns)

    def add(self, records: Iterable[tuple[int, list[Any] | None, list[int]]]) -> None:
        """Records with their places, values, and the columns that are unreadable in them."""
        places: list[int] = []
        rows: list[list[Any]] = []
        for place, row, odd in records:
            if row is None:
                continue
            places.append(place)
            rows.append(row)
            for index in odd:
                self._marks.setdefault(index, []).append(place)
        if rows:
            columns = zip(*rows, strict=True)
            made = [pa.array(values, kind) for values, kind in zip(columns, self._types, strict=True)]
            self.add_columns(np.array(places, np.int64), made)

    def columns(self) -> tuple[tuple[pa.Array, ...], tuple[pa.Array, ...], pa.Array]:
        """The columns, the marks of what is unreadable in them, and the mark of broken records."""
        broken = pa.array(self._left)
        missing = np.flatnonzero(self._left)
        if len(missing) or not self._parts:
            self.add_columns(missing, [pa.nulls(len(missing), kind) for kind in self._types])
        order = np.argsort(np.concatenate(self._rows))
        in_order = bool((np.diff(order) == 1).all())
        columns = []
        for parts in zip(*self._parts, strict=True):
            whole = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
            columns.append(whole if in_order else whole.take(pa.array(order)))
        length = len(self._left)
        marks = (_marked(length, self._marks.get(index, ())) for index in range(len(self._types)))
        return tuple(columns), tuple(marks), broken


def _marked(length: int, places: Sequence[int]) -> pa.Array:
    if not places:
        return pa.nulls(length, pa.bool_())
    unknown = np.ones(length, np.bool_)
    unknown[list(places)] = False
    return pa.array(np.ones(length, np.bool_), mask=unknown)
