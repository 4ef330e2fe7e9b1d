"""Records of both formats as columns: each conversion of the table in docs/guides/formats.md."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from both_roads import decoded
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.timestamp_pb2 import DESCRIPTOR as TIMESTAMP
from proto_files import compiled
from record_schemas import avro_bytes, avro_schema, avro_source, proto_text, protobuf_source

from headgate.formats.binding import column_problems
from headgate.formats.decoder import Decoder, carriers
from headgate.formats.protobuf import message_class
from headgate.formats.schema import schema_of


class _Unreadable:
    """A stand-in that is the same in every process of a test run."""

    def __repr__(self) -> str:
        return "unreadable"


UNREADABLE = _Unreadable()
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MICROS = int(NOON.timestamp()) * 1_000_000


def one(type_: Any, value: Any, column: str, **more: Any) -> Any:
    """What a column of a type becomes of one Avro value: the value, None, or UNREADABLE."""
    schema = avro_schema(("v", type_))
    source = avro_source(schema, [{"name": "v", "type": column, **more}])
    found = decoded(source, [avro_bytes(schema, {"v": value})])
    assert found.broken.to_pylist() == [False]
    if found.unreadable[0].to_pylist() == [True]:
        assert found.columns[0].to_pylist() == [None]
        return UNREADABLE
    return found.columns[0].to_pylist()[0]


def refused(type_: Any, column: str, **more: Any) -> list[str]:
    source = avro_source(avro_schema(("v", type_)), [{"name": "v", "type": column, **more}])
    return [each.message for each in column_problems(schema_of(source).record, source.columns)]


def logical(type_: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, "logicalType": name, **more}


ENUM = {"type": "enum", "name": "E", "symbols": ["RED", "BLUE"]}
DECIMAL = logical("bytes", "decimal", precision=20, scale=3)
MILLIS, MICRO = logical("long", "timestamp-millis"), logical("long", "timestamp-micros")
LOCAL = logical("long", "local-timestamp-millis")
CONVERSIONS = [
    ("boolean", True, "boolean", True),
    ("boolean", False, "string", "false"),
    ("int", -5, "int", -5),
    ("int", 5, "long", 5),
    ("int", 5, "double", 5.0),
    ("long", 2**31, "int", UNREADABLE),
    ("long", -(2**31), "int", -(2**31)),
    ("long", 2**63 - 1, "string", "9223372036854775807"),
    ("long", 2**63 - 1, "decimal(19,0)", Decimal(2**63 - 1)),
    ("long", 1000, "decimal(5,2)", UNREADABLE),
    ("long", 999, "decimal(5,2)", Decimal("999.00")),
    ("float", 1.5, "double", 1.5),
    ("double", 1.5, "float", 1.5),
    ("double", 1e39, "float", UNREADABLE),
    ("double", math.nan, "double", UNREADABLE),
    ("double", -math.inf, "double", UNREADABLE),
    ("float", math.inf, "float", UNREADABLE),
    ("double", 2.345, "decimal(5,2)", Decimal("2.35")),
    ("double", 0.1, "decimal(38,1)", Decimal("0.1")),
    ("double", 1e300, "decimal(38,0)", UNREADABLE),
    ("string", "ä😀\x00", "string", "ä😀\x00"),
    ("string", "12", "int", "12"),  # carried as text: Spark converts it
    ("bytes", b"\x00\xff", "binary", b"\x00\xff"),
    ({"type": "fixed", "name": "F", "size": 2}, b"ab", "binary", b"ab"),
    (ENUM, "BLUE", "string", "BLUE"),
    (DECIMAL, Decimal("-12.345"), "decimal(10,3)", Decimal("-12.345")),
    (DECIMAL, Decimal("12.345"), "decimal(10,2)", Decimal("12.35")),
    (DECIMAL, Decimal("12.345"), "decimal(3,2)", UNREADABLE),
    (DECIMAL, Decimal("12.345"), "double", 12.345),
    (logical("int", "date"), date(2026, 1, 2), "date", date(2026, 1, 2)),
    (logical("int", "date"), 3_000_000, "date", UNREADABLE),
    (MILLIS, NOON, "timestamp", NOON),
    (MICRO, NOON.replace(microsecond=1), "timestamp", NOON.replace(microsecond=1)),
    (logical("long", "timestamp-nanos"), MICROS * 1000 + 1999, "timestamp", NOON.replace(microsecond=1)),
    (MICRO, -1, "timestamp", datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    (MILLIS, 2**60, "timestamp", UNREADABLE),
    (LOCAL, MICROS // 1000, "timestamp", NOON),  # the wall's time: Spark puts it into the zone
    (logical("string", "uuid"), "a", "string", "a"),
    (logical("long", "time-micros"), 5, "long", 5),
    (["null", "int"], None, "int", None),
    (["null", "int"], 5, "int", 5),
    (["int", "long", "null"], 2**40, "long", 2**40),
    (["string", "long"], 7, "string", "7"),
    (["string", "long"], "seven", "string", "seven"),
    ({"type": "array", "items": ["null", "int"]}, [1, None], "array<long>", [1, None]),
    ({"type": "array", "items": "long"}, [1, 2**40], "array<int>", UNREADABLE),
    ({"type": "map", "values": "int"}, {"a": 1}, "map<string,double>", [("a", 1.0)]),
    ({"type": "map", "values": MILLIS}, {"a": NOON}, "map<string,timestamp>", [("a", NOON)]),
]


@pytest.mark.parametrize(("type_", "value", "column", "expected"), CONVERSIONS, ids=str)
def test_avro_values_become_what_the_table_says(type_, value, column, expected):
    assert one(type_, value, column) == expected


def test_a_uuid_of_sixteen_bytes_is_written_out():
    type_ = {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}
    schema = avro_schema(("v", type_))
    source = avro_source(schema, [{"name": "v", "type": "string"}])
    found = decoded(source, [UUID(int=5).bytes])
    assert found.columns[0].to_pylist() == ["00000000-0000-0000-0000-000000000005"]


def test_a_records_fields_become_a_structs_and_others_are_left_out():
    inner = {
        "type": "record",
        "name": "In",
        "fields": [{"name": "x", "type": "int"}, {"name": "y", "type": ["null", "string"]}],
    }
    assert one(inner, {"x": 1, "y": None}, "struct<y:string>") == {"y": None}
    assert one(["null", inner], {"x": 1, "y": "a"}, "struct<y:string,x:long>") == {"y": "a", "x": 1}


@pytest.mark.parametrize(
    ("type_", "column", "says"),
    [
        ("double", "string", "does not become string"),
        ("double", "int", "does not become int"),
        ("boolean", "int", "does not become int"),
        ("bytes", "string", "bytes does not become string"),
        ("long", "timestamp", "a whole number of 64 bits does not become timestamp"),
        ("string", "array<int>", "text does not become array<int>"),
        (MILLIS, "long", "a moment does not become long"),
        (["double", "string"], "string", "does not become string"),
        ({"type": "array", "items": "string"}, "array<int>", "text does not become int"),
        ("null", "int", "always null"),
    ],
    ids=str,
)
def test_pairs_that_the_table_does_not_have_are_faults_of_the_contract(type_, column, says):
    assert says in refused(type_, column)[0]


def test_a_format_where_the_schema_has_times_is_a_fault_and_epochs_are_not():
    assert "no say" in refused(MILLIS, "timestamp", format="yyyy")[0]
    assert refused("long", "timestamp", format="epoch_millis") == []
    assert refused("string", "timestamp", format="dd.MM.yyyy") == []


def test_a_column_that_the_schema_lacks_gets_the_nearest_word():
    source = avro_source(avro_schema(("value", "int")), [{"name": "valeu", "type": "int"}])
    (problem,) = column_problems(schema_of(source).record, source.columns)
    assert problem.message == "the schema has no field `valeu`"
    assert problem.help == "did you mean `value`?"


def test_one_bad_record_costs_one_record_at_any_share():
    schema = avro_schema(("v", "string"), ("n", "int"))
    source = avro_source(schema, [{"name": "v", "type": "string"}, {"name": "n", "type": "int"}])
    good = avro_bytes(schema, {"v": "a", "n": 1})
    bad: list[bytes | None] = [None, b"", good[:-1], good + b"\x00", b"\x02\xff\x02", b"{}", b"\xff" * 100]
    found = decoded(source, [*bad, good, *bad, good])
    assert found.broken.to_pylist() == [*[True] * 7, False, *[True] * 7, False]
    assert found.columns[0].to_pylist() == [*[None] * 7, "a", *[None] * 7, "a"]
    assert decoded(source, bad).broken.to_pylist() == [True] * 7
    assert decoded(source, []).broken.to_pylist() == []


# -- evolution of Avro: each record by its writer's schema, resolved to the reader's


def framed(schema_id: int, body: bytes) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big") + body


def evolved(reader: str, writer: str, record: dict[str, Any], columns: dict[str, str]) -> Any:
    source = avro_source(
        reader,
        [{"name": name, "type": type_} for name, type_ in columns.items()],
        frozen={"registry": True, "subject": "s", "id": 1},
    )
    values = [framed(2, avro_bytes(writer, record))]
    found = decoded(source, values, lambda ids: {2: writer} if 2 in ids else {})
    if found.broken.to_pylist() == [True]:
        return None
    return {name: column.to_pylist()[0] for name, column in zip(columns, found.columns, strict=True)}


def test_a_field_added_with_a_default_has_it_in_older_records():
    writer = avro_schema(("a", "int"))
    reader = avro_schema(("a", "int"), {"name": "b", "type": "bytes", "default": "\u00ff"})
    assert evolved(reader, writer, {"a": 1}, {"a": "int", "b": "binary"}) == {"a": 1, "b": b"\xff"}


def test_a_nested_default_is_complete():
    inner = {
        "type": "record",
        "name": "In",
        "fields": [{"name": "x", "type": "int"}, {"name": "y", "type": "string", "default": "why"}],
    }
    reader = avro_schema(("a", "int"), {"name": "r", "type": inner, "default": {"x": 4}})
    found = evolved(reader, avro_schema(("a", "int")), {"a": 1}, {"r": "struct<x:int,y:string>"})
    assert found == {"r": {"x": 4, "y": "why"}}


def test_a_field_that_was_removed_is_passed_over():
    writer = avro_schema(("gone", {"type": "array", "items": "string"}), ("a", "int"))
    assert evolved(avro_schema(("a", "int")), writer, {"gone": ["x"], "a": 1}, {"a": "int"}) == {"a": 1}


def test_an_int_that_became_a_long_is_read_in_older_records():
    assert evolved(avro_schema(("a", "long")), avro_schema(("a", "int")), {"a": 1}, {"a": "long"}) == {"a": 1}


def test_a_renamed_field_is_found_by_its_alias():
    reader = avro_schema({"name": "new", "type": "int", "aliases": ["old"]})
    assert evolved(reader, avro_schema(("old", "int")), {"old": 3}, {"new": "int"}) == {"new": 3}


def test_a_time_is_read_in_the_unit_that_it_was_written_in():
    found = evolved(avro_schema(("a", MICRO)), avro_schema(("a", MILLIS)), {"a": NOON}, {"a": "timestamp"})
    assert found == {"a": NOON}


def test_records_of_a_writer_that_cannot_be_resolved_are_kept_as_broken():
    reader = avro_schema(("a", "int"))
    assert evolved(reader, avro_schema(("b", "int")), {"b": 1}, {"a": "int"}) is None
    assert evolved(reader, avro_schema(("a", "boolean")), {"a": True}, {"a": "int"}) is None


ADDRESS = {
    "type": "record",
    "name": "Address",
    "fields": [{"name": "street", "type": "string"}, {"name": "b", "type": "int"}],
}
NEWER_ADDRESS = {**ADDRESS, "fields": ADDRESS["fields"][:1]}
INSIDE = [
    (lambda one: one, "{}", lambda value: value, lambda value: value),
    (lambda one: ["null", one], "{}", lambda value: value, lambda value: value),
    (lambda one: {"type": "array", "items": one}, "array<{}>", lambda value: [value], lambda value: [value]),
    (
        lambda one: {"type": "map", "values": ["null", one]},
        "map<string,{}>",
        lambda value: {"k": value},
        lambda value: [("k", value)],
    ),
    (
        lambda one: {"type": "record", "name": "Outer", "fields": [{"name": "r", "type": one}]},
        "struct<r:{}>",
        lambda value: {"r": value},
        lambda value: {"r": value},
    ),
]


@pytest.mark.parametrize(
    ("put", "column", "written", "read"),
    INSIDE,
    ids=["record", "union", "array", "map", "record in a record"],
)
def test_a_nested_field_that_no_column_asks_for_may_go_without_a_default(put, column, written, read):
    reader, writer = avro_schema(("a", put(ADDRESS))), avro_schema(("a", put(NEWER_ADDRESS)))
    record = {"a": written({"street": "x"})}
    assert evolved(reader, writer, record, {"a": column.format("struct<street:string>")}) == {
        "a": read({"street": "x"})
    }
    assert evolved(reader, writer, record, {"a": column.format("struct<b:int>")}) is None


def test_ids_are_asked_for_once_and_unknown_ones_again():
    schema = avro_schema(("a", "int"))
    source = avro_source(
        schema,
        [{"name": "a", "type": "int"}],
        frozen={"registry": True, "subject": "s", "id": 1},
    )
    asked: list[tuple[int, ...]] = []

    def writers(ids):
        asked.append(tuple(ids))
        return {each: schema for each in ids if each != 9}

    decoder = Decoder(source, writers)
    body = avro_bytes(schema, {"a": 1})
    records = [framed(1, body), framed(2, body), framed(3, body), framed(2, body), framed(9, body), body]
    values = pa.array(records, pa.binary())
    assert decoder.decode(values).broken.to_pylist() == [False, False, False, False, True, True]
    assert decoder.decode(values).broken.to_pylist() == [False, False, False, False, True, True]
    assert asked == [(2, 3, 9), (9,)]


# -- Protobuf

F = FieldDescriptorProto


def proto_file(
    *fields: tuple[Any, ...], syntax: str = "proto3", name: str = "a.proto"
) -> FileDescriptorProto:
    """A file with the message `t.M`; fields are (name, number, type, more)."""
    file = FileDescriptorProto(name=name, package="t", syntax=syntax)
    file.dependency.append("google/protobuf/timestamp.proto")
    other = file.message_type.add(name="Before")
    other.nested_type.add(name="In").field.add(name="x", number=1, type=F.TYPE_INT32, label=1)
    message = file.message_type.add(name="M")
    file.enum_type.add(name="E").value.add(name="ZERO", number=0)
    file.enum_type[0].value.add(name="TWO", number=2)
    for field_name, number, type_, *more in fields:
        options = dict(more[0]) if more else {}
        if options.get("proto3_optional"):
            options["oneof_index"] = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field_name}")
        message.field.add(name=field_name, number=number, type=type_, **{"label": 1, **options})
    return file


def proto_set(file: FileDescriptorProto) -> str:
    timestamp = FileDescriptorProto()
    TIMESTAMP.CopyToProto(timestamp)
    return proto_text(timestamp, file)


def proto_one(field: tuple[Any, ...], column: str, make: Any, **more: Any) -> Any:
    text = proto_set(proto_file(("v", 1, *field)))
    message = message_class(text, "t.M")()
    make(message)
    source = protobuf_source(text, "t.M", [{"name": "v", "type": column, **more}])
    found = decoded(source, [message.SerializeToString()])
    assert found.broken.to_pylist() == [False]
    return UNREADABLE if found.unreadable[0].to_pylist() == [True] else found.columns[0].to_pylist()[0]


def setting(value: Any) -> Any:
    return lambda message: setattr(message, "v", value)


def nothing(_: Any) -> None:
    pass


OPTIONAL, REPEATED = {"proto3_optional": True}, {"label": 3}
STAMP = {"type_name": ".google.protobuf.Timestamp"}
PROTO = [
    ((F.TYPE_INT32,), "int", setting(-1), -1),
    ((F.TYPE_INT32,), "int", nothing, 0),  # a field without presence that is absent has its zero
    ((F.TYPE_INT32, OPTIONAL), "int", nothing, None),
    ((F.TYPE_INT32, OPTIONAL), "int", setting(0), 0),
    ((F.TYPE_UINT32,), "int", setting(2**31), UNREADABLE),
    ((F.TYPE_UINT32,), "long", setting(2**32 - 1), 2**32 - 1),
    ((F.TYPE_UINT64,), "long", setting(2**63), UNREADABLE),
    ((F.TYPE_UINT64,), "decimal(20,0)", setting(2**64 - 1), Decimal(2**64 - 1)),
    ((F.TYPE_FIXED64,), "string", setting(2**64 - 1), "18446744073709551615"),
    ((F.TYPE_DOUBLE,), "double", setting(math.nan), UNREADABLE),
    ((F.TYPE_STRING,), "string", setting("ä"), "ä"),
    ((F.TYPE_STRING,), "string", nothing, ""),
    ((F.TYPE_BYTES,), "binary", setting(b"\xff"), b"\xff"),
    ((F.TYPE_BOOL,), "boolean", setting(True), True),
    ((F.TYPE_ENUM, {"type_name": ".t.E"}), "string", setting(2), "TWO"),
    ((F.TYPE_ENUM, {"type_name": ".t.E"}), "string", setting(7), UNREADABLE),
    ((F.TYPE_ENUM, {"type_name": ".t.E"}), "int", setting(7), 7),
    ((F.TYPE_INT64, REPEATED), "array<int>", lambda m: m.v.extend([1, 2]), [1, 2]),
    ((F.TYPE_INT64, REPEATED), "array<int>", nothing, []),
    ((F.TYPE_MESSAGE, STAMP), "timestamp", lambda m: m.v.FromJsonString("2026-01-02T12:00:00Z"), NOON),
    ((F.TYPE_MESSAGE, STAMP), "timestamp", nothing, None),
    ((F.TYPE_MESSAGE, STAMP), "timestamp", lambda m: setattr(m.v, "seconds", 2**62), UNREADABLE),
    ((F.TYPE_MESSAGE, {"type_name": ".t.Before.In"}), "struct<x:long>", nothing, None),
    (
        (F.TYPE_MESSAGE, {"type_name": ".t.Before.In"}),
        "struct<x:long>",
        lambda m: setattr(m.v, "x", 3),
        {"x": 3},
    ),
]


@pytest.mark.parametrize(("field", "column", "make", "expected"), PROTO)
def test_protobuf_values_become_what_the_table_says(field, column, make, expected):
    assert proto_one(field, column, make) == expected


def test_bytes_that_are_no_message_are_broken():
    text = proto_set(proto_file(("v", 1, F.TYPE_STRING), ("n", 2, F.TYPE_INT32)))
    source = protobuf_source(text, "t.M", [{"name": "v", "type": "string"}])
    good = message_class(text, "t.M")(v="abc", n=300).SerializeToString()
    values = [None, good[:-1], good[:3], b'{"v": 1}', b"\x0a\x02\xc0\xaf", b"\xff" * 20, b"\x0b" * 5000, good]
    found = decoded(source, values)
    assert found.broken.to_pylist() == [True] * 7 + [False]
    assert found.columns[0].to_pylist()[-1] == "abc"


def test_a_required_field_of_proto2_must_be_there():
    text = proto_set(proto_file(("v", 1, F.TYPE_STRING, {"label": 2}), syntax="proto2"))
    source = protobuf_source(text, "t.M", [{"name": "v", "type": "string"}])
    assert decoded(source, [b""]).broken.to_pylist() == [True]


def test_text_of_proto2_that_is_no_utf8_breaks_the_record():
    text = proto_set(proto_file(("v", 1, F.TYPE_STRING), syntax="proto2"))
    source = protobuf_source(text, "t.M", [{"name": "v", "type": "string"}])
    assert decoded(source, [b"\x0a\x02\xc0\xaf"]).broken.to_pylist() == [True]


CLOSED = """
  optional K k = 1; repeated K ks = 2; repeated K packed = 3 [packed = true]; map<int32, K> by = 4;
  optional In inside = 5; repeated In more = 6; optional int32 other = 7;
  enum K { A = 0; B = 1; } message In { optional K k = 1; optional int32 x = 2; }
"""
CLOSED_COLUMNS = {
    "k": "string",
    "ks": "array<int>",
    "packed": "array<string>",
    "by": "map<int,string>",
    "inside": "struct<k:string,x:int>",
    "more": "array<struct<k:int>>",
    "other": "int",
}


@pytest.mark.parametrize(
    ("value", "column"),
    [
        (b"\x08\x05", "k"),
        (b"\x10\x01\x10\x07\x10\x00", "ks"),
        (b"\x1a\x03\x01\x07\x00", "packed"),
        (b"\x22\x04\x08\x01\x10\x05", "by"),
        (b"\x2a\x04\x08\x05\x10\x03", "inside"),
        (b"\x32\x02\x08\x01\x32\x02\x08\x05", "more"),
    ],
    ids=["one", "repeated", "packed", "map", "nested", "nested and repeated"],
)
def test_a_number_that_a_closed_enum_does_not_have_is_unreadable_and_not_lost(value, column):
    columns = [{"name": name, "type": type_} for name, type_ in CLOSED_COLUMNS.items()]
    source = protobuf_source(compiled(CLOSED, syntax="proto2"), "shop.Order", columns)
    found = decoded(source, [value + b"\x38\x09"])
    marked = [
        name
        for name, mark in zip(CLOSED_COLUMNS, found.unreadable, strict=True)
        if mark.to_pylist() == [True]
    ]
    assert (found.broken.to_pylist(), marked) == ([False], [column])
    assert found.columns[-1].to_pylist() == [9]


def test_numbers_that_a_closed_enum_has_are_read_beside_fields_that_nobody_knows():
    columns = [{"name": name, "type": type_} for name, type_ in CLOSED_COLUMNS.items()]
    source = protobuf_source(compiled(CLOSED, syntax="proto2"), "shop.Order", columns)
    value = b"\x08\x01\x10\x01\x1a\x01\x00\x22\x04\x08\x01\x10\x01\x2a\x02\x08\x01\x78\x05"
    found = decoded(source, [value])
    assert [each.to_pylist()[0] for each in found.columns] == [
        *("B", [1], ["A"], [(1, "B")]),
        *({"k": "B", "x": None}, [], None),
    ]
    assert all(mark.to_pylist() == [None] for mark in found.unreadable)


def test_a_new_field_of_protobuf_is_passed_over_and_an_absent_one_has_its_zero():
    old = proto_set(proto_file(("v", 1, F.TYPE_INT32)))
    new = proto_set(
        proto_file(("v", 1, F.TYPE_INT64), ("w", 2, F.TYPE_STRING), ("o", 3, F.TYPE_INT32, OPTIONAL))
    )
    columns = [{"name": "v", "type": "long"}, {"name": "w", "type": "string"}, {"name": "o", "type": "int"}]
    written_new = message_class(new, "t.M")(v=1, w="a").SerializeToString()
    found = decoded(protobuf_source(old, "t.M", [{"name": "v", "type": "int"}]), [written_new])
    assert found.columns[0].to_pylist() == [1]
    frozen = {"registry": True, "subject": "s", "id": 2}
    body = message_class(old, "t.M")(v=5).SerializeToString()
    found = decoded(
        protobuf_source(new, "t.M", columns, frozen=frozen),
        [b"\x00\x00\x00\x00\x01\x02\x02" + body, b"\x00\x00\x00\x00\x02\x02\x02" + written_new],
        lambda ids: {1: old},
    )
    assert found.broken.to_pylist() == [False, False]
    assert [column.to_pylist() for column in found.columns] == [[5, 1], ["", "a"], [None, None]]


def test_records_of_another_message_than_the_contracts_are_broken():
    text = proto_set(proto_file(("v", 1, F.TYPE_INT32)))
    frozen = {"registry": True, "subject": "s", "id": 1}
    source = protobuf_source(text, "t.M", [{"name": "v", "type": "int"}], frozen=frozen)
    head = b"\x00\x00\x00\x00\x01"
    values = [
        head + b"\x02\x02\x08\x05",
        head + b"\x00\x08\x05",
        head + b"\x04\x00\x00\x08\x05",
        head + b"\x02\x63",
    ]
    assert decoded(source, values).broken.to_pylist() == [False, True, True, True]


def test_how_a_column_is_carried_depends_on_the_readers_schema():
    schema = avro_schema(("t", "string"), ("l", LOCAL), ("m", MILLIS), ("e", "long"), ("s", "string"))
    columns = [
        {"name": "t", "type": "timestamp"},
        {"name": "l", "type": "timestamp"},
        {"name": "m", "type": "timestamp"},
        {"name": "e", "type": "timestamp", "format": "epoch_seconds"},
        {"name": "s", "type": "string"},
    ]
    assert carriers(avro_source(schema, columns)) == {
        "t": "text",
        "l": "local",
        "m": "value",
        "e": "text",
        "s": "value",
    }
