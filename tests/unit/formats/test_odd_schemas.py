"""Schemas that nobody meant to be read: each is a problem with that schema, and with nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from both_roads import decoded
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from record_schemas import avro_bytes, avro_schema, avro_source, proto_text

from headgate.formats.avro import canonical_text
from headgate.formats.decoder import Decoder, unresolved
from headgate.formats.schema import load_schema, schema_of
from headgate.formats.shapes import SchemaProblem


def decimal(**more: Any) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", **more}


def nested(depth: int) -> Any:
    type_: Any = "int"
    for _ in range(depth):
        type_ = {"type": "array", "items": type_}
    return type_


def twice(levels: int, **more: Any) -> dict[str, Any]:
    """Each record has the one before it in two fields: 2^levels fields in a few bytes for each level."""
    record: dict[str, Any] = {"type": "record", "name": "R0", "fields": []}
    for level in range(1, levels + 1):
        again = {"name": "b", "type": f"R{level - 1}", **more}
        record = {"type": "record", "name": f"R{level}", "fields": [{"name": "a", "type": record}, again]}
    return record


def messages(count: int, fields: int) -> str:
    """Messages that each have the next one in so many fields."""
    file = FileDescriptorProto(name="a.proto", package="t", syntax="proto3")
    for level in range(count):
        message = file.message_type.add(name=f"M{level}")
        for number in range(1, fields + 1) if level + 1 < count else ():
            message.field.add(
                name=f"f{number}",
                number=number,
                type=FieldDescriptorProto.TYPE_MESSAGE,
                label=1,
                type_name=f".t.M{level + 1}",
            )
    return proto_text(file)


@pytest.mark.parametrize(
    "schema",
    [
        avro_schema({"name": "a", "type": "bytes", "default": "€"}),
        avro_schema(("a", nested(100))),
        avro_schema(("a", nested(520))),
        avro_schema({"name": "a", "type": "Reading", "default": {}}),
        avro_schema({"name": "a", "type": "int", "default": 2**40}),
        avro_schema(("a", {"type": "fixed", "name": "F", "size": "many"})),
        '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long", "default": ' + "9" * 5000,
    ],
    ids=["bytes", "arrays", "more-arrays", "default", "range", "fixed", "digits"],
)
def test_what_an_avro_schema_raises_is_a_problem_with_it(schema):
    with pytest.raises(SchemaProblem):
        load_schema("avro", schema, None)


@pytest.mark.parametrize("more", [{}, {"default": {}}], ids=["fields", "defaults"])
def test_an_avro_schema_that_stands_for_millions_of_fields_is_refused(more):
    with pytest.raises(SchemaProblem, match="more than 20,000 fields"):
        load_schema("avro", json.dumps(twice(25, **more)), None)


@pytest.mark.parametrize(("count", "fields"), [(250, 1), (25, 2)])
def test_messages_too_deep_or_too_many_are_a_problem_with_their_schema(count, fields):
    with pytest.raises(SchemaProblem, match=r"deep|more than 20,000 fields"):
        load_schema("protobuf", messages(count, fields), "t.M0")


def test_an_enum_is_listed_once_however_many_fields_have_it():
    enum = {"type": "enum", "name": "E", "symbols": [f"s{each}" for each in range(1000)]}
    fields = [("a0", enum), *((f"a{each}", "E") for each in range(1, 100))]
    record = load_schema("avro", avro_schema(*fields), None).record
    assert len({id(field.shape) for field in record.fields}) == 1


def test_a_default_that_is_no_unicode_cannot_be_kept():
    with pytest.raises(SchemaProblem, match="UnicodeEncodeError"):
        canonical_text(avro_schema({"name": "a", "type": "string", "default": "\ud800"}))


@pytest.mark.parametrize(
    "type_",
    [
        decimal(precision=None),
        decimal(precision=3, scale=None),
        decimal(precision=3_000_000, scale=2_500_000),
        decimal(precision=1_500_000, scale=1_500_000),
    ],
    ids=["precision", "scale", "large", "larger-than-its-digits"],
)
def test_a_decimal_that_is_none_is_the_bytes_under_it(type_):
    schema = avro_schema(("a", type_))
    as_bytes = avro_source(schema, [{"name": "a", "type": "binary"}])
    assert decoded(as_bytes, [b"\x02\x05"]).columns[0].to_pylist() == [b"\x05"]
    reader = avro_source(
        avro_schema(("a", decimal(precision=9, scale=2))), [{"name": "a", "type": "decimal(9,2)"}]
    )
    assert "bytes does not become decimal" in str(unresolved(schema_of(reader), reader, schema))


def test_a_decimal_of_more_digits_than_a_column_has_is_read_if_its_value_fits():
    schema = avro_schema(("a", decimal(precision=1000, scale=4)))
    source = avro_source(schema, [{"name": "a", "type": "decimal(9,2)"}])
    found = decoded(source, [avro_bytes(schema, {"a": Decimal("1.2345")}), b"\x80\x01" + b"\x7f" * 64])
    assert found.columns[0].to_pylist() == [Decimal("1.23"), None]
    assert found.unreadable[0].to_pylist() == [None, True]


def test_whatever_a_record_raises_costs_that_record_alone(monkeypatch):
    """A fault of ours must not end a stream: its records wait in the quarantine."""
    schema = avro_schema(("a", "int"))
    decoder = Decoder(avro_source(schema, [{"name": "a", "type": "int"}]))

    def read(value: bytes) -> Any:
        if value == b"\x04":
            raise ArithmeticError("nobody thought of it")
        if value == b"\x06":
            raise MemoryError
        return {"a": 1}

    monkeypatch.setattr(decoder, "_own", replace(decoder._own, read=read))
    assert decoder.decode(pa.array([b"\x02", b"\x04"])).broken.to_pylist() == [False, True]
    with pytest.raises(MemoryError):
        decoder.decode(pa.array([b"\x06"]))
