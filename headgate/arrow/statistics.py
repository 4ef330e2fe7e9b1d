"""Statistics of a file for Delta's log, by which readers skip files: bounds, never more than is known."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Statistics"]

MAX_COLUMNS = 32  # as many as Delta's own writers look at
MAX_TEXT = 32  # a longer bound would have to be cut, and what is cut is no upper bound
# Of the years 1 and 9999, between which Python has dates.
FIRST_MILLISECOND, LAST_MILLISECOND = -62_135_596_800_000, 253_402_300_799_999
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - in UTC, and written with its Z


class Statistics:
    """Bounds, nulls and rows of what was written to one file."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = list(schema)[:MAX_COLUMNS]
        self._rows = 0
        self._nulls = [0] * len(self._schema)
        self._bounds: list[list[Any] | None] = [
            [] if _is_bounded(field.type) else None for field in self._schema
        ]

    def add(self, table: pa.Table) -> None:
        self._rows += table.num_rows
        for number in range(len(self._schema)):
            column = table.column(number)
            self._nulls[number] += column.null_count
            bounds = self._bounds[number]
            if bounds is None or column.null_count == len(column):
                continue
            if pa.types.is_timestamp(column.type):
                column = column.cast(pa.int64())
            elif pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
                # Above all others to Spark, which would skip a file by bounds that know nothing of it.
                self._bounds[number] = None
                continue
            found = pc.min_max(column)
            values = [*bounds, found["min"].as_py(), found["max"].as_py()]
            finite = all(not isinstance(value, float) or math.isfinite(value) for value in values)
            self._bounds[number] = [min(values), max(values)] if finite else None

    def to_json(self) -> str:
        low: dict[str, Any] = {}
        high: dict[str, Any] = {}
        nulls: dict[str, int] = {}
        for field, bounds, count in zip(self._schema, self._bounds, self._nulls, strict=True):
            if not pa.types.is_nested(field.type):
                nulls[field.name] = count
            if bounds and (texts := _texts(field.type, bounds)) is not None:
                low[field.name], high[field.name] = texts
        found = {"numRecords": self._rows, "minValues": low, "maxValues": high, "nullCount": nulls}
        return json.dumps(found, ensure_ascii=False)


def _is_bounded(kind: pa.DataType) -> bool:
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_boolean(kind))


def _texts(kind: pa.DataType, bounds: list[Any]) -> tuple[Any, Any] | None:
    low, high = bounds
    if pa.types.is_timestamp(kind):
        # Milliseconds are all that the log has: down for the lower bound, up for the upper one.
        lower, upper = low // 1000, -(-high // 1000)
        told = lower >= FIRST_MILLISECOND and upper <= LAST_MILLISECOND
        return (_moment(lower), _moment(upper)) if told else None
    if pa.types.is_date(kind):
        return low.isoformat(), high.isoformat()
    if isinstance(low, str) and (len(low) > MAX_TEXT or len(high) > MAX_TEXT):
        return None
    return low, high


def _moment(milliseconds: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return f"{moment.isoformat(timespec='milliseconds')}Z"
