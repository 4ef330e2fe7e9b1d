"""The types that the Arrow lane knows, under Spark's own names, and how each is read from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from headgate.contract.model import Column, Source

__all__ = ["KINDS", "MOMENT", "ORIGIN", "Unsupported", "column_kinds", "json_schema"]

MOMENT = pa.timestamp("us", tz="UTC")
KINDS: Mapping[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": MOMENT,
    "binary": pa.binary(),
}
# Where a record is from; SQL may use all but the value and the batch's time.
ORIGIN: Mapping[str, str] = {
    "_key": "binary",
    "_topic": "string",
    "_partition": "integer",
    "_offset": "long",
    "_arrival": "timestamp",
}
_READ_AS_TEXT = {"date", "timestamp"}
_EPOCHS = {"epoch_seconds", "epoch_millis"}


class Unsupported(Exception):
    """The Arrow lane cannot do this with Spark's own meaning; the text says what."""


def column_kinds(source: Source) -> dict[str, str]:
    """What SQL sees of a source: names and types."""
    return {**{column.name: _kind(column) for column in source.columns}, **ORIGIN}


def json_schema(columns: Sequence[Column]) -> pa.Schema:
    """As what Arrow reads each column. Raises Unsupported."""
    return pa.schema([(column.name, _read_as(column)) for column in columns])


def _kind(column: Column) -> str:
    kind = {"int": "integer"}.get(column.type, column.type)
    if kind not in KINDS or kind == "binary":
        raise Unsupported(f"column {column.name} is of type {column.type}")
    return kind


def _read_as(column: Column) -> pa.DataType:
    kind = _kind(column)
    if kind not in _READ_AS_TEXT:
        return KINDS[kind]
    if column.format in _EPOCHS and kind == "timestamp":
        return pa.int64()
    if column.format:
        raise Unsupported(f"column {column.name} has a format of its own")
    if kind == "timestamp" and column.zone not in (None, "UTC"):
        # Java and Arrow bring zone tables of their own, of different years.
        raise Unsupported(f"column {column.name} is read in the zone {column.zone}")
    return pa.string()
