"""Messages that are read in columns are read as one at a time, whatever order their fields are in."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from both_roads import ALWAYS, decoded, raised
from damage import DAMAGES, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from proto_files import compiled
from proto_wire import messages, tag, varint
from record_schemas import protobuf_source

from headgate.formats.decoder import Decoder
from headgate.formats.protobuf import message_class

IMPORTS = ("google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto")
VARINT, FIXED64, SIZED, FIXED32 = 0, 1, 2, 5
# A field: its wire type, or the fields of its message, and the columns that it may become.
INSIDE = {1: VARINT, 2: SIZED, 3: {1: VARINT}}
TIME = {1: VARINT, 2: VARINT}
EPOCH = {"type": "timestamp", "format": "epoch_millis"}
NUMBER = ["int", "long", "double", "float", "string"]
FIELDS: dict[str, tuple[Any, list[Any]]] = {
    "int32": (VARINT, NUMBER),
    "int64": (VARINT, [*NUMBER, EPOCH]),
    "uint32": (VARINT, NUMBER),
    "uint64": (VARINT, [*NUMBER, EPOCH, "decimal(20,0)"]),
    "sint32": (VARINT, NUMBER),
    "sint64": (VARINT, NUMBER),
    "bool": (VARINT, ["boolean", "string"]),
    "fixed32": (FIXED32, NUMBER),
    "sfixed32": (FIXED32, NUMBER),
    "float": (FIXED32, ["float", "double"]),
    "fixed64": (FIXED64, NUMBER),
    "sfixed64": (FIXED64, NUMBER),
    "double": (FIXED64, ["float", "double", "decimal(12,2)"]),
    "string": (SIZED, ["string", "int"]),
    "bytes": (SIZED, ["binary"]),
    "K": (VARINT, ["string", "int"]),
    "In": (INSIDE, []),
    "google.protobuf.Timestamp": (TIME, ["timestamp"]),
    "google.protobuf.Int64Value": ({1: VARINT}, ["long", "string"]),
    "google.protobuf.UInt64Value": ({1: VARINT}, ["long", "string"]),
    "google.protobuf.StringValue": ({1: SIZED}, ["string"]),
    "google.protobuf.BytesValue": ({1: SIZED}, ["binary"]),
    "google.protobuf.DoubleValue": ({1: FIXED64}, ["double"]),
    "google.protobuf.BoolValue": ({1: VARINT}, ["boolean"]),
}
ENUM = "enum K { ZERO = 0; TWO = 2; BELOW = -1; }"
MESSAGES = "message In { int32 x = 1; string y = 2; In again = 3; }"
OLD_MESSAGES = "message In { required int32 x = 1; optional string y = 2; optional In again = 3; }"


def numbered(*declared: str) -> str:
    return " ".join(f"{each} f{number} = {number};" for number, each in enumerate(declared, 1))


def oneof(first: int, *types: str) -> str:
    inside = " ".join(f"{each} f{number} = {number};" for number, each in enumerate(types, first))
    return f"oneof one {{ {inside} }}"


KINDS = list(FIELDS)
CHOSEN = ["int32", "string", "In", "google.protobuf.Timestamp", "K", "bytes"]
WRAPPED = ["google.protobuf.StringValue", "int32", "google.protobuf.BytesValue", "In"]
OPTIONAL = ["int64", "string", "K", "double"]
# Numbers of one and of two bytes, and what is left to the exact road where a record has it.
SCHEMAS: dict[str, tuple[str, str, list[str]]] = {
    "proto3": (
        numbered(*KINDS, *(f"optional {each}" for each in OPTIONAL))
        + oneof(len(KINDS) + len(OPTIONAL) + 1, *CHOSEN)
        + f" repeated int32 many = 40; map<string, int32> by = 41; {ENUM} {MESSAGES}",
        "proto3",
        [*KINDS, *OPTIONAL, *CHOSEN],
    ),
    "proto2": (
        numbered(*(f"optional {each}" for each in KINDS))
        + oneof(len(KINDS) + 1, *CHOSEN)
        + f" repeated int32 many = 40; map<string, int32> by = 41; {ENUM} {OLD_MESSAGES}",
        "proto2",
        [*KINDS, *CHOSEN],
    ),
    "oneof": (
        oneof(1, *CHOSEN, "int64", "string") + f" string f9 = 9; {ENUM} {MESSAGES}",
        "proto3",
        [*CHOSEN, "int64", "string", "string"],
    ),
    "wrapped": (oneof(1, *WRAPPED) + f" {MESSAGES}", "proto3", WRAPPED),
    "required": (
        numbered("required int64", "optional string", "required string") + ENUM,
        "proto2",
        ["int64", "string", "string"],
    ),
    "extended": (
        numbered("optional int64", "optional string") + " extensions 50 to 60;",
        "proto2",
        ["int64", "string"],
    ),
}


@st.composite
def case(draw: Any) -> tuple[str, list[dict[str, str]], list[bytes | None]]:
    declared, syntax, kinds = SCHEMAS[draw(st.sampled_from(sorted(SCHEMAS)))]
    numbers = draw(st.lists(st.sampled_from(range(1, len(kinds) + 1)), min_size=1, max_size=6, unique=True))
    columns = []
    for number in numbers:
        possible = FIELDS[kinds[number - 1]][1]
        if possible:
            column = draw(st.sampled_from(possible))
            columns.append(
                {"name": f"f{number}", **(column if isinstance(column, dict) else {"type": column})}
            )
    fields = {number: FIELDS[kind][0] for number, kind in enumerate(kinds, 1)}
    beside = draw(st.lists(st.sampled_from(sorted(fields)), max_size=3))
    near = {number: fields[number] for number in (*numbers, *beside)}
    rare = {40: VARINT, 41: {1: SIZED, 2: VARINT}}
    shown = draw(st.sampled_from([near, near, fields, {**near, **rare}]))
    records = draw(st.lists(st.tuples(messages(shown), DAMAGES, st.integers(0, 2**32)), max_size=8))
    return compiled(declared, syntax, IMPORTS), columns, [damaged(*each) for each in records]


@settings(deadline=None, max_examples=200)
@given(case())
def test_messages_are_read_in_columns_as_one_at_a_time(made):
    text, columns, values = made
    if columns:
        decoded(protobuf_source(text, "shop.Order", columns), values)


def never(_: bytes) -> Any:
    raise AssertionError("a plain message was read one at a time")


def in_columns(text: str, columns: list[dict[str, str]], values: list[bytes]) -> list[list[Any]]:
    """As columns, and not one record of them another way."""
    source = protobuf_source(text, "shop.Order", columns)
    decoder = Decoder(source, least=ALWAYS, on_fault=raised)
    decoder._own = replace(decoder._own, read=never)
    found = decoder.decode(pa.array(values, pa.binary()))
    assert not any(found.broken.to_pylist())
    assert found.columns == decoded(source, values).columns
    return [each.to_pylist() for each in found.columns]


def all_columns(kinds: list[str]) -> list[dict[str, str]]:
    return [
        {"name": f"f{number}", "type": FIELDS[kind][1][0]}
        for number, kind in enumerate(kinds, 1)
        if FIELDS[kind][1]
    ]


@pytest.mark.parametrize("name", ["proto3", "proto2"])
def test_messages_of_all_single_fields_are_read_in_columns(name):
    declared, syntax, kinds = SCHEMAS[name]
    text = compiled(declared, syntax, IMPORTS)
    class_ = message_class(text, "shop.Order")
    full: Any = class_(f1=-1, f2=2**30, f3=5, f4=6, f5=-7, f6=-8, f7=True, f8=9, f9=-10, f10=1.5, f11=11)
    full.MergeFrom(class_(f12=-12, f13=-0.0, f14="ä", f15=b"\xff", f16=2))
    full.f18.FromJsonString("1960-01-02T03:04:05.123456789Z")
    full.f19.value = -1
    full.f21.value = "text"
    full.f24.SetInParent()
    full.f17.x = 1
    half = class_(f2=1, f14="b")
    setattr(half, f"f{len(kinds)}", b"chosen")
    values = [each.SerializeToString() for each in (full, half, class_(), full, half)]
    found = in_columns(text, all_columns(kinds), values)
    assert found[0][0] == -1
    # The last is bytes in a oneof, which another field of it has taken the place of.
    assert found[-1] == [None, b"chosen", None, None, b"chosen"]


def test_fields_in_another_order_doubled_or_unknown_are_read_in_columns():
    text = compiled("int64 a = 1; string b = 2; double c = 3; int32 d = 16;")
    columns = [{"name": each, "type": kind} for each, kind in zip("abcd", NUMBER_OF, strict=True)]
    a, b, c = tag(1, 0) + varint(7), tag(2, 2) + b"\x01x", tag(3, 1) + struct.pack("<d", -0.0)
    unknown = tag(9, 0) + b"\x05" + tag(10, 1) + bytes(8) + tag(11, 2) + b"\x02ab" + tag(12, 5) + bytes(4)
    again = tag(1, 0) + varint(2**64 - 3)
    d = tag(16, 0) + varint(2**64 - 1)
    values = [a + b + c + d, d + c + b + a, a + again, unknown + a + unknown + d, b"", c + unknown]
    found = in_columns(text, columns, values)
    assert found[0] == [7, 7, -3, 7, 0, 0]
    assert found[3] == [-1, -1, 0, -1, 0, 0]


def test_an_empty_wrapper_in_one_record_has_the_zero_of_its_type_beside_the_values_of_others():
    text = compiled("google.protobuf.DoubleValue a = 1; google.protobuf.UInt64Value b = 2;", imports=IMPORTS)
    columns = [{"name": "a", "type": "double"}, {"name": "b", "type": "string"}]
    empty, later = tag(1, 2) + b"\x00" + tag(2, 2) + b"\x00", tag(3, 0) + b"\x00"
    half = tag(1, 2) + b"\x09" + tag(1, 1) + struct.pack("<d", 0.5)
    most = varint(2**64 - 1)
    large = tag(2, 2) + varint(len(most) + 1) + tag(1, 0) + most
    found = in_columns(text, columns, [empty, later + half + large, later + half + large, b"", empty])
    assert found[0] == [0.0, 0.5, 0.5, None, 0.0]
    assert found[1] == ["0", "18446744073709551615", "18446744073709551615", None, "0"]


@pytest.mark.parametrize("kind", ["int32", "string", "In"])
def test_a_field_of_a_oneof_takes_the_place_of_another_also_where_no_column_has_it(kind):
    text = compiled(f"oneof one {{ int64 a = 1; {kind} b = 2; string c = 3; }} message In {{ int32 x = 1; }}")
    columns = [{"name": "a", "type": "long"}, {"name": "c", "type": "string"}]
    a, c = tag(1, 0) + b"\x05", tag(3, 2) + b"\x01c"
    b = tag(2, 0) + b"\x00" if kind == "int32" else tag(2, 2) + b"\x00"
    found = in_columns(text, columns, [a, a + b, b + a, a + c, c + a + b, c + b + c[:1] + b"\x00", b])
    assert found == [
        [5, None, 5, None, None, None, None],
        [None, None, None, "c", None, "", None],
    ]


@settings(deadline=None, max_examples=100)
@given(st.lists(messages(dict(enumerate((FIELDS[each][0] for each in WRAPPED), 1))), max_size=8))
def test_wrappers_that_take_the_place_of_each_other_are_read_as_one_at_a_time(values):
    declared, syntax, kinds = SCHEMAS["wrapped"]
    decoded(protobuf_source(compiled(declared, syntax, IMPORTS), "shop.Order", all_columns(kinds)), values)


NO_TEXT = b"\x0a\x01\xff"


@pytest.mark.parametrize("behind", [b"", tag(2, 0) + b"\x05", tag(2, 0) + b"\x05" + tag(1, 2) + b"\x00"])
def test_a_wrapped_text_that_is_no_utf8_breaks_its_record_whatever_takes_its_place(behind):
    text = compiled("oneof one { google.protobuf.StringValue s = 1; int32 i = 2; }", imports=IMPORTS)
    source = protobuf_source(
        text, "shop.Order", [{"name": "s", "type": "string"}, {"name": "i", "type": "int"}]
    )
    good = tag(1, 2) + b"\x03\x0a\x01a"
    found = decoded(source, [good, tag(1, 2) + b"\x03" + NO_TEXT + behind, good])
    assert found.broken.to_pylist() == [False, True, False]


NUMBER_OF = ["long", "string", "double", "int"]
HOSTILE = [
    tag(1, 0) + b"\xff" * 9 + b"\x01",
    tag(1, 0) + b"\xff" * 9 + b"\x02",
    tag(1, 0) + b"\xff" * 10,
    tag(1, 0) + b"\x80" * 9 + b"\x00",
    tag(1, 0),
    tag(2, 2) + varint(2**63 - 1) + b"abc",
    tag(2, 2) + varint(2**64 - 1) + b"abc",
    tag(2, 2) + varint(3, padding=5) + b"abc",
    tag(2, 2) + b"\x02\xc0\xaf",
    tag(2, 2) + b"\x02\xc0\xaf" + tag(2, 2) + b"\x01a",
    tag(2, 2) + b"\x01a" + tag(2, 2) + b"\x01b",
    tag(3, 1) + bytes(7),
    tag(0, 0) + b"\x01",
    tag(7, 3) + tag(7, 4),
    tag(7, 4),
    tag(7, 6),
    tag(1, 2) + b"\x01a",
    tag(1, 0, padding=4) + b"\x01",
    varint(2**32 + (1 << 3)) + b"\x01",
    varint(2**63 + (1 << 3)) + b"\x01",
    varint(2**64 - 8) + b"\x01",
    tag(4, 0) + varint(2**31),
    tag(4, 0) + varint(2**32 - 1),
]


@pytest.mark.parametrize("value", HOSTILE, ids=bytes.hex)
def test_hostile_messages_are_judged_as_one_at_a_time_and_cost_no_other(value):
    text = compiled("int64 a = 1; string b = 2; double c = 3; int32 d = 4;")
    columns = [{"name": each, "type": kind} for each, kind in zip("abcd", NUMBER_OF, strict=True)]
    good = tag(1, 0) + b"\x05" + tag(2, 2) + b"\x01x"
    found = decoded(protobuf_source(text, "shop.Order", columns), [good, value, good, value, None])
    assert found.columns[0].to_pylist()[::2] == [5, 5, None]


def test_a_megabyte_of_unknown_fields_keeps_no_other_record_from_its_columns():
    text = compiled("int64 a = 1; string b = 2;")
    source = protobuf_source(
        text, "shop.Order", [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]
    )
    good = tag(1, 0) + b"\x05" + tag(2, 2) + b"\x01x"
    climbing = b"".join(tag(number, 0) + b"\x00" for number in range(3, 3000))
    hostile = [tag(15, 0) + b"\x00", tag(2, 5) + bytes(4), tag(1, 0) + b"\x00", climbing]
    values = [*(each * (1_000_000 // len(each)) for each in hostile), *[good] * 2000]
    read: list[bytes] = []
    decoder = Decoder(source, least=ALWAYS, on_fault=raised)
    exact = decoder._own.read

    def noted(value: bytes) -> Any:
        read.append(value)
        return exact(value)

    decoder._own = replace(decoder._own, read=noted)
    found = decoder.decode(pa.array(values, pa.binary()))
    assert good not in read
    assert len(read) == len(hostile)
    assert found.columns[0].to_pylist() == [0, 0, 0, 0, *[5] * 2000]
    assert not any(found.broken.to_pylist())


PATHS = [
    b"\x00",
    b"\x02\x00",
    b"\x02\x02",
    b"\x02\x01",
    b"\x04\x00\x00",
    b"\x02\x80\x00",
    b"\x80\x00",
    b"\x7f",
]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 2, 3, 2**32 - 1]),
            st.sampled_from(PATHS),
            DAMAGES,
            st.integers(0, 2**32),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_messages_of_several_writers_and_paths_come_back_in_their_order(made):
    new = compiled("int64 a = 1; optional string b = 2; message Within { int32 x = 1; }")
    old = compiled("int32 a = 1;")
    texts = {1: new, 2: old, 2**32 - 1: old}
    values = []
    for schema_id, path, how, seed, head in made:
        body = tag(1, 0) + varint(seed % 300) + (tag(2, 2) + b"\x01x" if schema_id == 1 else b"")
        start = b"\x00" + schema_id.to_bytes(4, "big") + path
        hurt = damaged(body, how, seed)
        values.append(damaged(start + body, how, seed) if head else None if hurt is None else start + hurt)
    columns = [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]
    source = protobuf_source(new, "shop.Order", columns, frozen={"registry": True, "subject": "s", "id": 1})
    decoded(source, values, lambda ids: {each: texts[each] for each in ids if each in texts})
