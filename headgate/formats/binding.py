"""A contract's columns bound to a schema: for each of them how it is carried, taken and converted.

The reader's schema is the contract's; a record may be written with another one. A column is the reader's
field of its name; of a record it is the writer's field that stands for that one, and the reader's default
where there is none.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from headgate.contract.model import Column
from headgate.formats.convert import Convert, NotConvertibleError, as_it_is, converter
from headgate.formats.shapes import (
    Field,
    ListOf,
    MapOf,
    Moment,
    Record,
    Shape,
    Text,
    Whole,
    describe,
)
from headgate.formats.types import ColumnType, parse_type

__all__ = ["Bound", "Carrier", "ColumnProblem", "bind", "carrier_of", "column_problems", "resolved"]

# What reaches Spark: the value itself; text that Spark converts as it does a text column's; or a time of a
# clock on the wall, which takes the column's zone there.
Carrier = Literal["value", "text", "local"]

_EPOCHS = ("epoch_seconds", "epoch_millis")
_TEXT = ColumnType("string")


@dataclass(frozen=True, slots=True)
class Bound:
    """One column: `get` takes its value from a record and converts it; absent is None.

    `written` is the writer's field that it is taken from, of this `shape`, None where it is the default of a
    field that the writer does not have."""

    name: str
    get: Callable[[Any], Any]
    written: str | None
    shape: Shape
    convert: Convert


@dataclass(frozen=True, slots=True)
class ColumnProblem:
    """What is wrong between a column and the schema; `key` is the column's key that it is about."""

    index: int
    key: str
    message: str
    expected: str | None = None
    help: str | None = None


def column_problems(record: Record, columns: tuple[Column, ...]) -> list[ColumnProblem]:
    """All that is wrong between a contract's columns and its schema."""
    problems = []
    names = [field.name for field in record.fields]
    for index, column in enumerate(columns):
        field = record.field(column.name)
        if field is None:
            close = difflib.get_close_matches(column.name, names, n=1)
            problems.append(
                ColumnProblem(
                    index,
                    "name",
                    f"the schema has no field `{column.name}`",
                    f"one of {', '.join(names) or '(none)'}",
                    f"did you mean `{close[0]}`?" if close else None,
                )
            )
        else:
            problems.extend(_type_problems(index, column, field.shape))
    return problems


def _type_problems(index: int, column: Column, shape: Shape) -> list[ColumnProblem]:
    try:
        carrier = carrier_of(shape, column)
        _conversion(shape, column, carrier)
    except NotConvertibleError as error:
        return [
            ColumnProblem(
                index,
                "type",
                str(error),
                "a pair of types in the table of docs/guides/formats.md",
                _hint(shape, column),
            )
        ]
    except ValueError as error:
        return [ColumnProblem(index, "type", str(error))]
    if carrier != "text" and column.format is not None:
        message = f"`format` has no say: the schema's `{column.name}` is {describe(shape)}"
        return [ColumnProblem(index, "format", message, "no `format`")]
    return []


def _hint(shape: Shape, column: Column) -> str | None:
    if isinstance(shape, Whole) and column.type == "timestamp":
        return "say `format: epoch_seconds` or `format: epoch_millis`"
    return None


def carrier_of(shape: Shape, column: Column) -> Carrier:
    """How the column reaches Spark; it depends on the reader's schema alone, for a frame has one type."""
    if isinstance(shape, Text) and column.type != "string":
        return "text"
    if column.type == "timestamp":
        if isinstance(shape, Whole) and column.format in _EPOCHS:
            return "text"
        if isinstance(shape, Moment) and not shape.zoned:
            return "local"
    return "value"


def bind(reader: Record, writer: Record | None, columns: tuple[Column, ...]) -> list[Bound]:
    """The columns over records of the writer's schema, which is the reader's where there is none.

    Raises NotConvertibleError where a field of the writer cannot become its column.
    """
    kept = _cut_record(reader, {column.name: parse_type(column.type) for column in columns})
    record = kept if writer is None else resolved(kept, writer)
    bound = []
    for column in columns:
        field, own = record.field(column.name), kept.field(column.name)
        if field is None or own is None:
            raise NotConvertibleError(f"the schema has no field `{column.name}`")
        convert = _conversion(field.shape, column, carrier_of(own.shape, column))
        found = own if writer is None else _same_field(own, writer)
        written = None if found is None else found.name
        bound.append(Bound(column.name, _taken(field.get, convert), written, field.shape, convert))
    return bound


def _cut_record(record: Record, parts: Mapping[str, ColumnType]) -> Record:
    """The fields that somebody asked for: of another one it does not matter what a writer made of it."""
    return Record(
        record.name,
        tuple(
            replace(field, shape=_cut(field.shape, parts[field.name]))
            for field in record.fields
            if field.name in parts
        ),
    )


def _cut(shape: Shape, type_: ColumnType) -> Shape:
    """Records inside with the fields of the column's structs; what goes with no such type is as it was.

    In a union of several shapes no record becomes a column, so that none is looked for there."""
    if isinstance(shape, Record) and type_.name == "struct":
        return _cut_record(shape, dict(type_.parts))
    if isinstance(shape, ListOf) and type_.name == "array":
        return ListOf(_cut(shape.item, type_.parts[0][1]))
    if isinstance(shape, MapOf) and type_.name == "map":
        return MapOf(shape.key, _cut(shape.value, type_.parts[1][1]))
    return shape


def _conversion(shape: Shape, column: Column, carrier: Carrier) -> Convert:
    type_ = parse_type(column.type)
    if carrier == "value":
        return converter(shape, type_)
    if carrier == "local":
        if not isinstance(shape, Moment) or shape.zoned:
            raise NotConvertibleError(f"{describe(shape)} does not become a time without a zone")
        return converter(replace(shape, zoned=True), type_)
    if type_.parts:
        raise NotConvertibleError(f"{describe(shape)} does not become {type_}")
    return converter(shape, _TEXT)


def _taken(get: Callable[[Any], Any], convert: Convert) -> Callable[[Any], Any]:
    if convert is as_it_is:
        return get

    def take(record: Any) -> Any:
        value = get(record)
        return None if value is None else convert(value)

    return take


def resolved(reader: Record, writer: Record) -> Record:
    """The reader's fields over the writer's values: by number, or by name or alias, or by default.

    Raises NotConvertibleError for a field that the writer does not have and that has no default.
    """
    return Record(reader.name, tuple(_resolved_field(field, writer) for field in reader.fields))


def _resolved_field(field: Field, writer: Record) -> Field:
    found = _same_field(field, writer)
    if found is not None:
        return replace(field, shape=_resolved_shape(field.shape, found.shape), get=found.get)
    if not field.has_default:
        raise NotConvertibleError(
            f"a record written without `{field.name}` cannot be read: it has no default"
        )
    return replace(field, get=lambda _: field.default)


def _same_field(field: Field, writer: Record) -> Field | None:
    if field.number is not None:
        return next((each for each in writer.fields if each.number == field.number), None)
    for name in (field.name, *field.aliases):
        found = writer.field(name)
        if found is not None:
            return found
    return None


def _resolved_shape(reader: Shape, writer: Shape) -> Shape:
    """Records inside are resolved as well; what is no record is as it was written."""
    if isinstance(reader, Record) and isinstance(writer, Record):
        return resolved(reader, writer)
    if isinstance(reader, ListOf) and isinstance(writer, ListOf):
        return ListOf(_resolved_shape(reader.item, writer.item))
    if isinstance(reader, MapOf) and isinstance(writer, MapOf):
        return MapOf(writer.key, _resolved_shape(reader.value, writer.value))
    return writer
