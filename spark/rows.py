"""Rows of a result as Redis keeps them: JSON's types, an event time and a key."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from serving.results import ResultRow

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

__all__ = ["newest_rows", "result_rows"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What Redis is given of a result that is too large to collect: it serves the newest, it is not a table.
REDIS_ROWS = 10_000


def result_rows(rows: pa.Table, key: Sequence[str], event_time: str | None, batch_id: int) -> list[ResultRow]:
    """Rows in their order. Without a `key`, its batch and its place in the batch tell a row apart: rows of
    one event time come in several batches, and a batch that runs again replaces its own."""
    found = []
    for number, row in enumerate(_rows(rows)):
        moment = row.get(event_time) if event_time else None
        body = {name: _plain(value) for name, value in row.items()}
        own = [body[name] for name in key] if key else [batch_id, number]
        found.append(
            ResultRow(
                event_time_ms=_milliseconds(moment) if isinstance(moment, datetime) else None,
                key=json.dumps(own, ensure_ascii=False),
                body=body,
            )
        )
    return found


def newest_rows(frame: DataFrame, event_time: str | None) -> pa.Table:
    """The rows of a frame that Redis gets: those of the newest event times, where there are any."""
    ordered = frame.orderBy(frame[event_time].desc()) if event_time else frame
    return ordered.limit(REDIS_ROWS).toArrow()


def _rows(rows: pa.Table) -> Iterator[dict[str, Any]]:
    names = rows.column_names
    for values in zip(*(_values(column) for column in rows.columns), strict=True):
        yield dict(zip(names, values, strict=True))


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        values = [_known(value) for value in column]
    return values


def _known(value: pa.Scalar) -> Any:
    """A value of Python. Dates and times before the year 1 or after 9999, which SQL can compute and Python
    does not know, are null, however deep they lie: one of them must not stop the stream."""
    import pyarrow as pa

    if not value.is_valid:
        return None
    if isinstance(value, pa.StructScalar):
        return {name: _known(value[name]) for name in value.type.names}
    if isinstance(value, pa.MapScalar):
        return [(_known(pair["key"]), _known(pair["value"])) for pair in value.values]
    if isinstance(value, pa.ListScalar):
        return [_known(inner) for inner in value.values]
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return None


def _milliseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(milliseconds=1)  # rounding up could leave the calendar


def _plain(value: Any) -> Any:
    """A value in JSON's types; NaN and the infinities, which JSON does not know, are null."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _TEXTS[type(value)](value) if type(value) in _TEXTS else value


def _moment(value: datetime) -> str:
    aware = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return aware.isoformat().replace("+00:00", "Z")


_TEXTS: Mapping[type, Callable[[Any], str]] = {
    datetime: _moment,
    date: date.isoformat,
    Decimal: str,
    bytes: lambda value: base64.b64encode(value).decode("ascii"),
}
