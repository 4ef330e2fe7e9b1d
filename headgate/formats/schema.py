"""A source's schema, loaded: the shape of its records, and what reads one from its bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from headgate.contract.model import Source
from headgate.errors import RefusedError
from headgate.formats.shapes import Record, taking_apart

if TYPE_CHECKING:
    from headgate.formats.lockstep import Lanes, Vector

__all__ = ["LoadedSchema", "ReadVectors", "load_schema", "same_schema", "schema_of"]


@dataclass(frozen=True, slots=True)
class ReadVectors:
    """`read` hands over fields of many records; `least` is how many these must be to be worth it."""

    read: Callable[[Lanes], Mapping[str, Vector]]
    least: int


@dataclass(frozen=True, slots=True)
class LoadedSchema:
    """`read` raises for what is no record, as a rule `headgate.formats.avro_binary.MALFORMED`. `vectors`
    makes what reads these fields of many records at once, None where that cannot be done."""

    record: Record
    read: Callable[[bytes], Any]
    vectors: Callable[[Collection[str]], ReadVectors | None]


def schema_of(source: Source) -> LoadedSchema:
    """The schema that is frozen with a source."""
    schema = source.record_schema
    if schema is None or schema.text is None:
        raise RefusedError(
            f"the schema of topic {source.topic} is not frozen with its contract",
            expected="a contract that was applied",
            help="headgate plan && headgate apply",
        )
    return load_schema(source.format, schema.text, schema.message)


@lru_cache(maxsize=256)
def load_schema(format_: str, text: str, message: str | None) -> LoadedSchema:
    """Raises SchemaProblem."""
    with taking_apart():
        return _avro(text) if format_ == "avro" else _protobuf(text, str(message))


def _avro(text: str) -> LoadedSchema:
    from headgate.formats.avro import avro_record, parse_avro
    from headgate.formats.avro_binary import record_reader

    def vectors(wanted: Collection[str]) -> ReadVectors | None:
        from headgate.formats.avro_columns import avro_vectors

        return avro_vectors(parsed, wanted)

    parsed = parse_avro(text)
    return LoadedSchema(avro_record(parsed), record_reader(parsed), vectors)


def _protobuf(text: str, message: str) -> LoadedSchema:
    from headgate.formats.protobuf import message_class, message_reader
    from headgate.formats.protobuf_shapes import protobuf_record

    def vectors(wanted: Collection[str]) -> ReadVectors | None:
        from headgate.formats.protobuf_columns import protobuf_vectors

        return protobuf_vectors(class_.DESCRIPTOR, wanted)

    class_ = message_class(text, message)
    return LoadedSchema(protobuf_record(class_), message_reader(class_), vectors)


def same_schema(format_: str, one: str, other: str) -> bool:
    """Whether two frozen texts say the same, for a registry may have laid one out anew."""
    if one == other:
        return True
    if format_ == "avro":
        return bool(json.loads(one) == json.loads(other))
    from headgate.formats.protobuf import same_files

    return same_files(one, other)
