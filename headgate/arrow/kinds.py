"""The types that the Arrow lane knows, under Spark's own names, and how each is read from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from headgate.contract.model import Column, Source

__all__ = [
    "EPOCHS",
    "KINDS",
    "MOMENT",
    "ORIGIN",
    "Unsupported",
    "check_zone",
    "column_kinds",
    "json_schema",
    "kind_of",
]

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
EPOCHS = {"epoch_seconds", "epoch_millis"}


class Unsupported(Exception):
    """The Arrow lane cannot do this with Spark's own meaning; the text says what."""


def column_kinds(source: Source) -> dict[str, str]:
    """What SQL sees of a source: names and types. Raises Unsupported."""
    own = {column.name: kind_of(column) for column in source.columns}
    line = {"line": "string"} if source.format == "text" else {}
    return {**line, **own, **ORIGIN}


def json_schema(columns: Sequence[Column]) -> pa.Schema:
    """As what Arrow reads each column. Raises Unsupported."""
    return pa.schema([(column.name, _read_as(column)) for column in columns])


def kind_of(column: Column) -> str:
    """Spark's name of a column's type. Raises Unsupported."""
    kind = {"int": "integer"}.get(column.type, column.type)
    if kind not in KINDS:
        raise Unsupported(f"column {column.name} is of type {column.type}")
    return kind


def _read_as(column: Column) -> pa.DataType:
    kind = kind_of(column)
    if kind == "binary":
        raise Unsupported(f"column {column.name} is of type {column.type}")
    if kind not in _READ_AS_TEXT:
        return KINDS[kind]
    if column.format in EPOCHS and kind == "timestamp":
        return pa.int64()
    if column.format:
        raise Unsupported(f"column {column.name} has a format of its own")
    if kind == "timestamp":
        check_zone(column)
    return pa.string()


def check_zone(column: Column) -> None:
    """Raises Unsupported for a zone other than UTC: Java and Arrow bring tables of their own, of different
    years."""
    if column.zone not in (None, "UTC"):
        raise Unsupported(f"column {column.name} is read in the zone {column.zone}")
