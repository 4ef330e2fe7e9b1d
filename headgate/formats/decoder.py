"""Records of Avro and Protobuf as columns of Arrow: one bad record costs one record.

Needs no Spark: it runs in a worker of the JVM lane's `mapInArrow`, and wherever else there is Arrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headgate.contract.model import Source
from headgate.formats.binding import Bound, bind, carrier_of
from headgate.formats.convert import NotConvertibleError, UnreadableError
from headgate.formats.faults import tell_once
from headgate.formats.schema import LoadedSchema, load_schema, schema_of
from headgate.formats.shapes import Record, SchemaProblem
from headgate.formats.types import arrow_type, parse_type

if TYPE_CHECKING:
    import pyarrow as pa

    from headgate.formats.binding import Carrier
    from headgate.formats.columns import Columns
    from headgate.formats.frames import Records

__all__ = ["BROKEN", "FIELD", "UNREADABLE", "DecodedBatch", "Decoder", "Writers", "carriers", "unresolved"]

# A frame has these beside the columns of Kafka, with the name of a column behind them.
FIELD, UNREADABLE, BROKEN = "_field_", "_mark_", "_broken_record"

# Schemas by the ids that are asked for; an id that the subject does not have is left out.
Writers = Callable[[Sequence[int]], Mapping[int, str]]


def carriers(source: Source) -> dict[str, Carrier]:
    """How each column reaches Spark."""
    record = schema_of(source).record
    return {
        column.name: carrier_of(field.shape, column)
        for column in source.columns
        if (field := record.field(column.name)) is not None
    }


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """`broken` marks records that could not be read at all; `unreadable` values that are there and cannot
    become their column's. Both are null in `columns`."""

    columns: tuple[pa.Array, ...]
    unreadable: tuple[pa.Array, ...]
    broken: pa.Array


@dataclass(frozen=True, slots=True)
class _Writer:
    """What reads the records of one schema."""

    read: Callable[[bytes], Any]
    bound: Sequence[Bound]
    text: str
    columns: Columns | None


class Decoder:
    """Decodes the records of one source. Not for several threads: it remembers the writers that it met.

    Fewer than `least` records of one schema are read one at a time, by default those that are not worth a
    block's while. `on_fault` is told what goes wrong in reading a block, which is read one at a time then."""

    def __init__(
        self,
        source: Source,
        writers: Writers | None = None,
        *,
        least: int | None = None,
        on_fault: Callable[[Exception], None] = tell_once,
    ) -> None:
        schema = source.record_schema
        assert schema is not None, "only sources with a schema are decoded here"
        self._source = source
        self._reader = schema_of(source)
        self._message = schema.message
        self._framed = schema.registry
        self._writers = writers
        self._least, self._on_fault = least, on_fault
        shown = carriers(source)
        self._types = [
            arrow_type(parse_type("string" if shown[column.name] == "text" else column.type))
            for column in source.columns
        ]
        self._own = self._bound(self._reader, None, str(schema.text))
        self._known: dict[int, _Writer | None] = {}
        if schema.id is not None:
            self._known[schema.id] = self._own

    @property
    def field_names(self) -> list[str]:
        """Names of the columns and of their marks, as a frame has them."""
        names = [column.name for column in self._source.columns]
        return [*(f"{FIELD}{name}" for name in names), *(f"{UNREADABLE}{name}" for name in names)]

    def decode(self, values: pa.Array) -> DecodedBatch:
        """Columns for these records, of type binary, in their order. Raises what `writers` raises, and
        nothing else."""
        from headgate.formats.gathered import Gathered

        found = Gathered(len(values), self._types)
        for writer, records in self._groups(values):
            left = records
            if writer.columns is not None:
                blocks = writer.columns.read(
                    records.buffer,
                    records.starts,
                    records.ends,
                    least=self._least,
                    on_fault=self._on_fault,
                )
                for block in blocks:
                    found.add_columns(records.rows[block.rows], block.columns)
                left = records.without([block.rows for block in blocks])
            found.add(_one_by_one(writer, left))
        return DecodedBatch(*found.columns())

    def _groups(self, values: pa.Array) -> Iterator[tuple[_Writer, Records]]:
        """The records that have a writer, by that."""
        from headgate.formats.frames import framed, plain

        records = plain(values)
        if not self._framed:
            yield self._own, records
            return
        found = framed(records, with_path=self._source.format == "protobuf")
        wanted = found.distinct_ids() - self._known.keys()
        if wanted and self._writers is not None:
            for schema_id, text in self._writers(sorted(wanted)).items():
                self._known[schema_id] = self._writer(text)
        for schema_id, path, part in found.of(self._known).groups():
            writer = self._known[schema_id]
            if writer is not None and (not path or self._is_message(writer.text, path)):
                yield writer, part

    def _is_message(self, text: str, path: tuple[int, ...]) -> bool:
        from headgate.formats.protobuf import message_at

        return message_at(text, path) == self._message

    def _writer(self, text: str) -> _Writer | None:
        """None for a schema whose records cannot become the columns: they are kept in the quarantine."""
        try:
            schema = load_schema(self._source.format, text, self._message)
            return self._bound(schema, schema.record, text)
        except (SchemaProblem, NotConvertibleError):
            return None

    def _bound(self, schema: LoadedSchema, record: Record | None, text: str) -> _Writer:
        from headgate.formats.columns import columns_of

        bound = bind(self._reader.record, record, self._source.columns)
        return _Writer(schema.read, bound, text, columns_of(schema, bound, self._types))


def _one_by_one(writer: _Writer, records: Records) -> Iterator[tuple[int, list[Any] | None, list[int]]]:
    """The place of each record, its values or None for what is no record, and which are unreadable."""
    for place, value in records.each():
        odd: list[int] = []
        yield place, _read(writer, value, odd), odd


def _read(writer: _Writer, value: bytes, odd: list[int]) -> list[Any] | None:
    """The values of a record's columns, None for what is no record; `odd` gets what is unreadable in it.

    This defines what a record is: what is read in columns is what would be read here."""
    try:
        record = writer.read(value)
        row: list[Any] = []
        for column in writer.bound:
            try:
                row.append(column.get(record))
            except UnreadableError:
                odd.append(len(row))
                row.append(None)
    except MemoryError:  # says nothing of the record: it may be one when the batch runs again
        raise
    except Exception:  # noqa: BLE001 -- whatever bytes of others make of a schema of others costs one record
        return None
    return row


def unresolved(reader: LoadedSchema, source: Source, text: str) -> str | None:
    """Why records of this writer's schema cannot become the source's columns; None when they can."""
    schema = source.record_schema
    try:
        writer = load_schema(source.format, text, schema.message if schema is not None else None)
        bind(reader.record, writer.record, source.columns)
    except (SchemaProblem, NotConvertibleError) as problem:
        return str(problem)
    return None
