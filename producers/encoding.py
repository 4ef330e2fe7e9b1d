"""Records of JSON as the source's format has them: Avro and Protobuf by the schema of the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from headgate import exact_json
from headgate.contract.model import Column, Source
from headgate.errors import HeadgateError
from headgate.formats.binding import carrier_of
from headgate.formats.encode import UnencodableError, encoder
from headgate.formats.schema import schema_of
from headgate.formats.shapes import Choice
from producers.datetimes import from_micros, zone_of
from producers.event_times import time_column
from producers.inputs import Outgoing

__all__ = ["encoded", "enum_names", "times_of"]


def encoded(records: Iterator[Outgoing], source: Source, name: str) -> Iterator[Outgoing]:
    """The same records in the source's format; `name` says where they are from.

    Raises HeadgateError at the first one that does not fit the schema: nobody could read it.
    """
    encode = encoder(source, times_of(source))

    def made() -> Iterator[Outgoing]:
        for number, record in enumerate(records, 1):
            try:
                yield Outgoing(encode(_object(record.value)), record.key)
            except (UnencodableError, ValueError, RecursionError) as error:
                raise HeadgateError(
                    f"record {number} of {name} cannot be written as {source.format.title()}: {error}",
                    expected="a JSON object that fits the contract's schema; the records before it were sent",
                    help="correct it, and send the rest",
                ) from error

    return made()


def enum_names(source: Source) -> dict[str, list[str]]:
    """The names that a column can have, where the schema has an enum there."""
    if not source.with_schema:
        return {}
    fields = {field.name: field.shape for field in schema_of(source).record.fields}
    shapes = {column.name: fields.get(column.name) for column in source.columns}
    return {name: list(shape.names.values()) for name, shape in shapes.items() if isinstance(shape, Choice)}


def _object(value: bytes) -> dict[str, Any]:
    record = exact_json.loads(value)
    if not isinstance(record, dict):
        raise UnencodableError("it is no JSON object")
    return record


def times_of(source: Source) -> dict[str, Callable[[Any], int | None]]:
    """What reads the times of each column, for fields that hold them as numbers."""
    shape = schema_of(source).record
    times = {}
    for column in source.columns:
        field = shape.field(column.name)
        if field is None or column.type not in {"timestamp", "date"}:
            continue
        carrier = carrier_of(field.shape, column)
        if carrier != "text" or column.format in {"epoch_seconds", "epoch_millis"}:
            on_the_wall = carrier == "local" or column.type == "date"
            times[column.name] = _wall(column) if on_the_wall else time_column(column).micros
    return times


def _wall(column: Column) -> Callable[[Any], int | None]:
    """What a clock in the column's zone shows, as if it were UTC's."""
    read, zone = time_column(column).micros, zone_of(column.zone)

    def wall(value: Any) -> int | None:
        micros = read(value)
        if micros is None:
            return None
        offset = from_micros(micros, zone).utcoffset()
        assert offset is not None, "a time in a zone has an offset"
        return micros + round(offset.total_seconds()) * 1_000_000

    return wall
