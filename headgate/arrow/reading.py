"""From the bytes of a source's records to its columns, whatever their format.

A reader takes only what it surely reads as `spark.decode` does. Of the other records it says which are surely
none, for which `_parse` is all that is wrong; the rest it leaves to Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headgate.arrow.blocks import BlockReader
from headgate.arrow.convert import Converted, convert
from headgate.arrow.extraction import extraction
from headgate.arrow.hopeless import Hopeless
from headgate.arrow.kinds import check_zone, json_schema
from headgate.arrow.lines import LineReader
from headgate.arrow.texts import check_text, convert_text
from headgate.contract.model import Column, Source
from headgate.formats.arrow import kept_decoder
from headgate.formats.decoder import Writers, carriers

__all__ = ["Reader", "Reading", "check_readable", "leaves_none", "reader_of"]

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
# The last moment of each record that is not in its future, in microseconds; computed when it is asked for.
Bounds = Callable[[], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Reading:
    """`rows`: the records that were read, in their order, and `columns` of these by name. `broken` are surely
    no records. All others are left."""

    rows: Rows
    columns: Mapping[str, Converted]
    broken: Rows


class Reader(Protocol):
    def read(self, values: pa.Array, bounds: Bounds, /) -> Reading:
        """`values` are of type binary."""


def reader_of(source: Source, writers: Writers | None = None) -> Reader:
    """`writers` finds the schemas of records that carry a registry's id."""
    if source.with_schema:
        return _SchemaReader(source, writers)
    return _JsonReader(source) if source.format == "json" else _TextReader(source)


def check_readable(source: Source) -> None:
    """Raises Unsupported for a source that is not read here."""
    if source.format == "json":
        json_schema(source.columns)
        return
    shown = carriers(source) if source.with_schema else {}
    for column in source.columns:
        carrier = shown.get(column.name, "text")
        if carrier == "text":
            check_text(column)
        elif carrier == "local":
            check_zone(column)
    if source.format == "text" and source.pattern:
        extraction(source.pattern)


def leaves_none(source: Source) -> bool:
    """Whether no record is ever left to Spark."""
    if not source.with_schema:
        return False
    types = {column.name: column.type for column in source.columns}
    return all(carrier != "text" or types[name] == "string" for name, carrier in carriers(source).items())


class _JsonReader:
    def __init__(self, source: Source) -> None:
        self._columns = source.columns
        self._blocks = BlockReader(json_schema(source.columns))
        self._hopeless = Hopeless(source)

    def read(self, values: pa.Array, bounds: Bounds) -> Reading:
        found = self._blocks.read(values)
        columns = {
            column.name: convert(_whole(found.table.column(column.name)), column) for column in self._columns
        }
        left = np.ones(len(values), bool)
        left[found.rows] = False
        return Reading(found.rows, columns, self._broken(values, np.flatnonzero(left), bounds))

    def _broken(self, values: pa.Array, left: Rows, bounds: Bounds) -> Rows:
        if not len(left):
            return left
        latest = bounds()
        sure = [self._hopeless.is_parse(values[row].as_py(), int(latest[row])) for row in left.tolist()]
        broken: Rows = left[np.array(sure, bool)]
        return broken


class _SchemaReader:
    """Avro and Protobuf: the JVM lane has the same decoder, and Spark converts what it carries as text."""

    def __init__(self, source: Source, writers: Writers | None) -> None:
        self._columns = source.columns
        self._carriers = carriers(source)
        self._decoder = kept_decoder(source.model_dump_json(exclude_defaults=True), writers)

    def read(self, values: pa.Array, _: Bounds) -> Reading:
        found = self._decoder.decode(values)
        broken = found.broken.to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(~broken)
        columns = {
            column.name: self._converted(column, value.take(pa.array(rows)), _marked(marks)[rows])
            for column, value, marks in zip(self._columns, found.columns, found.unreadable, strict=True)
        }
        return Reading(rows, columns, np.flatnonzero(broken))

    def _converted(self, column: Column, value: pa.Array, marked: Mask) -> Converted:
        if self._carriers[column.name] != "text":
            return Converted(value, marked, None)
        found = convert_text(value, column)
        unreadable = marked if found.unreadable is None else marked | found.unreadable
        return Converted(found.value, unreadable, found.doubtful)


class _TextReader:
    def __init__(self, source: Source) -> None:
        self._columns = source.columns
        self._lines = LineReader(source)

    def read(self, values: pa.Array, _: Bounds) -> Reading:
        found = self._lines.read(values)
        columns = {column.name: convert_text(found.fields[column.name], column) for column in self._columns}
        columns.setdefault("line", Converted(found.lines, None, None))
        return Reading(found.rows, columns, np.flatnonzero(_nulls(values)))


def _nulls(values: pa.Array) -> Mask:
    found: Mask = values.is_null().to_numpy(zero_copy_only=False)
    return found


def _marked(marks: pa.Array) -> Mask:
    found: Mask = marks.fill_null(False).to_numpy(zero_copy_only=False)
    return found


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)
