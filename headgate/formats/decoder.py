"""Records of Avro and Protobuf as columns of Arrow: one bad record costs one record.

Needs no Spark: it runs in a worker of the JVM lane's `mapInArrow`, and wherever else there is Arrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headgate.contract.model import Source
from headgate.formats.avro_binary import MalformedError
from headgate.formats.binding import Bound, bind, carrier_of
from headgate.formats.convert import NotConvertibleError, UnreadableError
from headgate.formats.schema import LoadedSchema, load_schema, schema_of
from headgate.formats.shapes import SchemaProblem
from headgate.formats.types import arrow_type, parse_type
from headgate.formats.wire import Framed, split

if TYPE_CHECKING:
    import pyarrow as pa

    from headgate.formats.binding import Carrier

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


class Decoder:
    """Decodes the records of one source. Not for several threads: it remembers the writers that it met."""

    def __init__(self, source: Source, writers: Writers | None = None) -> None:
        schema = source.record_schema
        assert schema is not None, "only sources with a schema are decoded here"
        self._source = source
        self._reader = schema_of(source)
        self._message = schema.message
        self._framed = schema.registry
        self._writers = writers
        self._own = _Writer(
            self._reader.read, bind(self._reader.record, None, source.columns), str(schema.text)
        )
        self._known: dict[int, _Writer | None] = {}
        if schema.id is not None:
            self._known[schema.id] = self._own
        shown = carriers(source)
        self._types = [
            arrow_type(parse_type("string" if shown[column.name] == "text" else column.type))
            for column in source.columns
        ]

    @property
    def field_names(self) -> list[str]:
        """Names of the columns and of their marks, as a frame has them."""
        names = [column.name for column in self._source.columns]
        return [*(f"{FIELD}{name}" for name in names), *(f"{UNREADABLE}{name}" for name in names)]

    def decode(self, values: pa.Array) -> DecodedBatch:
        """Columns for these records, binary values or null, in their order. Raises what `writers` raises, and
        nothing else."""
        if self._framed:
            records = self._split(values.to_pylist())
        else:
            records = [None if value is None else (self._own, value) for value in values.to_pylist()]
        return self._columns(records)

    def _columns(self, records: Sequence[tuple[_Writer, bytes] | None]) -> DecodedBatch:
        import pyarrow as pa

        blank: list[Any] = [None] * len(self._types)
        rows: list[list[Any]] = []
        broken: list[bool] = []
        marks: dict[int, list[int]] = {}  # the places of what is unreadable, by column
        for place, each in enumerate(records):
            row = None if each is None else _read(*each, place, marks)
            broken.append(row is None)
            rows.append(blank if row is None else row)
        columns = zip(*rows, strict=True) if rows else [()] * len(self._types)
        return DecodedBatch(
            tuple(pa.array(values, kind) for values, kind in zip(columns, self._types, strict=True)),
            tuple(_marked(len(rows), marks.get(index, ())) for index in range(len(self._types))),
            pa.array(broken, pa.bool_()),
        )

    def _split(self, values: Sequence[bytes | None]) -> list[tuple[_Writer, bytes] | None]:
        with_path = self._source.format == "protobuf"
        framed = [_framed(value, with_path) for value in values]
        wanted = {each.schema_id for each in framed if each is not None} - self._known.keys()
        if wanted and self._writers is not None:
            for schema_id, text in self._writers(sorted(wanted)).items():
                self._known[schema_id] = self._writer(text)
        return [None if each is None else self._of(each) for each in framed]

    def _of(self, framed: Framed) -> tuple[_Writer, bytes] | None:
        writer = self._known.get(framed.schema_id)
        if writer is None or (framed.path and not self._is_message(writer.text, framed.path)):
            return None
        return writer, framed.body

    def _is_message(self, text: str, path: tuple[int, ...]) -> bool:
        from headgate.formats.protobuf import message_at

        return message_at(text, path) == self._message

    def _writer(self, text: str) -> _Writer | None:
        """None for a schema whose records cannot become the columns: they are kept in the quarantine."""
        try:
            schema = load_schema(self._source.format, text, self._message)
            return _Writer(schema.read, bind(self._reader.record, schema.record, self._source.columns), text)
        except (SchemaProblem, NotConvertibleError):
            return None


def _read(writer: _Writer, value: bytes, place: int, marks: dict[int, list[int]]) -> list[Any] | None:
    """The values of a record's columns, None for what is no record; notes what is unreadable in it."""
    odd: list[int] = []
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
    for index in odd:
        marks.setdefault(index, []).append(place)
    return row


def _marked(length: int, places: Sequence[int]) -> pa.Array:
    import pyarrow as pa

    if not places:
        return pa.nulls(length, pa.bool_())
    marks: list[bool | None] = [None] * length
    for place in places:
        marks[place] = True
    return pa.array(marks, pa.bool_())


def _framed(value: bytes | None, with_path: bool) -> Framed | None:
    try:
        return None if value is None else split(value, with_path=with_path)
    except (MalformedError, IndexError):
        return None


def unresolved(reader: LoadedSchema, source: Source, text: str) -> str | None:
    """Why records of this writer's schema cannot become the source's columns; None when they can."""
    schema = source.record_schema
    try:
        writer = load_schema(source.format, text, schema.message if schema is not None else None)
        bind(reader.record, writer.record, source.columns)
    except (SchemaProblem, NotConvertibleError) as problem:
        return str(problem)
    return None
