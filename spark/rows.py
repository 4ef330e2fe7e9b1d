"""Rows of a result as Redis keeps them: JSON's types, an event time and a key."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from serving.results import ResultRow

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["result_rows"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Microseconds of the years 1 to 9999.
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999


def result_rows(rows: pa.Table, key: Sequence[str], event_time: str | None) -> list[ResultRow]:
    """Rows in their order. Without a `key`, a row's place among the batch's rows tells it apart."""
    found = []
    for number, row in enumerate(_within_python(rows).to_pylist()):
        moment = row.get(event_time) if event_time else None
        body = {name: _plain(value) for name, value in row.items()}
        own = [body[name] for name in key] if key else [number]
        found.append(
            ResultRow(
                event_time_ms=_milliseconds(moment) if isinstance(moment, datetime) else None,
                key=json.dumps(own, ensure_ascii=False),
                body=body,
            )
        )
    return found


def _within_python(rows: pa.Table) -> pa.Table:
    """Times before the year 1 or after 9999, which SQL can compute and Python does not know, as null:
    one of them must not stop the stream."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            micros = rows.column(place).cast(pa.timestamp("us", tz=field.type.tz)).cast(pa.int64())
            known = pc.and_(pc.greater_equal(micros, _FIRST), pc.less_equal(micros, _LAST))
            rows = rows.set_column(place, field, pc.if_else(known, rows.column(place), None))
    return rows


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
