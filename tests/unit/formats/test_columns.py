"""Records that are read in columns are read as one at a time: plain ones, odd ones, damaged ones."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from both_roads import ALWAYS, decoded, raised
from damage import DAMAGES, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from record_schemas import avro_bytes, avro_schema, avro_source

from headgate.formats.arrow import decode_batches
from headgate.formats.decoder import Decoder

LONGS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-300, 300))
INTS = st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(-100, 100))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DOUBLES = st.floats()


def logical(type_: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, "logicalType": name, **more}


# A type, values of it, and the columns that it may become.
TYPES: dict[str, tuple[Any, st.SearchStrategy[Any], list[dict[str, str]]]] = {
    "boolean": ("boolean", st.booleans(), [{"type": "boolean"}, {"type": "string"}]),
    "int": ("int", INTS, [{"type": each} for each in ("int", "long", "double", "float", "string")]),
    "long": (
        "long",
        LONGS,
        [
            *({"type": each} for each in ("int", "long", "double", "float", "string", "decimal(12,0)")),
            {"type": "timestamp", "format": "epoch_millis"},
        ],
    ),
    "float": ("float", st.floats(width=32), [{"type": "float"}, {"type": "double"}]),
    "double": ("double", DOUBLES, [{"type": "float"}, {"type": "decimal(20,3)"}, {"type": "double"}]),
    "string": ("string", TEXTS, [{"type": "string"}, {"type": "int"}]),
    "bytes": ("bytes", st.binary(max_size=12), [{"type": "binary"}]),
    "fixed": ({"type": "fixed", "size": 3}, st.binary(min_size=3, max_size=3), [{"type": "binary"}]),
    "enum": (
        {"type": "enum", "symbols": ["RED", "BLUE"]},
        st.sampled_from(["RED", "BLUE"]),
        [{"type": "string"}],
    ),
    "date": (logical("int", "date"), INTS, [{"type": "date"}]),
    "millis": (logical("long", "timestamp-millis"), LONGS, [{"type": "timestamp"}]),
    "micros": (logical("long", "timestamp-micros"), LONGS, [{"type": "timestamp"}]),
    "nanos": (logical("long", "timestamp-nanos"), LONGS, [{"type": "timestamp"}]),
    "wall": (logical("long", "local-timestamp-millis"), LONGS, [{"type": "timestamp"}]),
    "money": (
        logical("bytes", "decimal", precision=9, scale=2),
        st.binary(max_size=5),
        [{"type": "decimal(9,2)"}, {"type": "double"}],
    ),
    "record": (
        {
            "type": "record",
            "fields": [{"name": "x", "type": "string"}, {"name": "y", "type": ["null", "int"]}],
        },
        st.fixed_dictionaries({"x": TEXTS, "y": st.one_of(st.none(), INTS)}),
        [],
    ),
    "null": ("null", st.none(), []),
}
# As which a value is written whose type has a meaning of its own to the library that writes it.
PLAIN = {"date": "int", "millis": "long", "micros": "long", "nanos": "long", "wall": "long", "money": "bytes"}


def named(type_: Any, name: str) -> Any:
    return {**type_, "name": name} if isinstance(type_, dict) and "logicalType" not in type_ else type_


@st.composite
def written(draw: Any, least: int = 1) -> tuple[str, str, list[dict[str, Any]], list[dict[str, str]]]:
    """A schema, the same without logical types, records of it, and columns over it."""
    fields, plain, values, columns = [], [], {}, []
    for index in range(draw(st.integers(least, 5))):
        kind = draw(st.sampled_from(sorted(TYPES)))
        type_, made, possible = TYPES[kind]
        name, union = f"f{index}", draw(st.sampled_from(["", "", "first", "last"]))
        bare = PLAIN.get(kind, named(type_, f"T{index}"))
        if kind == "null":
            union = ""
        wrap = {"": lambda one: one, "first": lambda one: ["null", one], "last": lambda one: [one, "null"]}[
            union
        ]
        fields.append((name, wrap(named(type_, f"T{index}"))))
        plain.append((name, wrap(bare)))
        values[name] = st.one_of(st.none(), made) if union else made
        if possible and draw(st.booleans()):
            columns.append({"name": name, **draw(st.sampled_from(possible))})
    records = draw(st.lists(st.fixed_dictionaries(values), max_size=12))
    return avro_schema(*fields), avro_schema(*plain), records, columns


@settings(deadline=None, max_examples=200)
@given(written(), st.data())
def test_records_of_avro_are_read_in_columns_as_one_at_a_time(case, data):
    schema, plain, records, columns = case
    if not columns:
        return
    hurt = data.draw(st.lists(st.tuples(DAMAGES, st.integers(0, 2**32)), min_size=12, max_size=12))
    values = [damaged(avro_bytes(plain, each), *how) for each, how in zip(records, hurt, strict=False)]
    decoded(avro_source(schema, columns), values)


def framed(schema_id: int, body: bytes) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big") + body


READER = avro_schema(
    ("a", "long"),
    {"name": "b", "type": "string", "default": "none"},
    {"name": "c", "type": ["null", "double"], "default": None, "aliases": ["was_c"]},
)
OLDER = avro_schema(("a", "int"))
OTHER = avro_schema(("gone", "string"), ("was_c", "float"), ("b", ["string", "null"]), ("a", "int"))
SLOW = avro_schema(("list", {"type": "array", "items": "int"}), ("a", "long"))
COLUMNS = [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}, {"name": "c", "type": "double"}]
RECORDS = {
    1: (READER, {"a": 1, "b": "one", "c": -0.0}),
    2: (OLDER, {"a": 2}),
    3: (OTHER, {"gone": "x", "was_c": 1.5, "b": None, "a": 3}),
    4: (SLOW, {"list": [1, 2], "a": 4}),
    2**32 - 1: (OLDER, {"a": 5}),
}


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from([*RECORDS, 7]), DAMAGES, st.integers(0, 2**32), st.booleans()), max_size=30
    )
)
def test_records_of_several_writers_come_back_in_their_order(made):
    values = []
    for schema_id, how, seed, head in made:
        body = avro_bytes(*RECORDS.get(schema_id, RECORDS[1]))
        hurt = damaged(body, how, seed)
        whole = None if hurt is None else framed(schema_id, hurt)
        values.append(damaged(framed(schema_id, body), how, seed) if head else whole)
    frozen = {"registry": True, "subject": "s", "id": 1}
    source = avro_source(READER, COLUMNS, frozen=frozen)
    decoded(source, values, lambda ids: {each: RECORDS[each][0] for each in ids if each in RECORDS})


def never(_: bytes) -> Any:
    raise AssertionError("a plain record was read one at a time")


def fast_only(decoder: Decoder) -> Decoder:
    """Without the exact road, on which a record is broken now."""
    decoder._own = replace(decoder._own, read=never)
    return decoder


def test_plain_records_are_all_read_in_columns():
    fields = [(name, named(type_, f"T_{name}")) for name, (type_, _, _) in TYPES.items()]
    schema = avro_schema(*fields)
    plain = avro_schema(*((name, PLAIN.get(name, type_)) for name, type_ in fields))
    record = {
        **{
            "boolean": True,
            "int": -1,
            "long": 2**40,
            "float": 1.5,
            "double": -0.0,
            "string": "ä",
            "bytes": b"",
        },
        **{"fixed": b"abc", "enum": "BLUE", "date": 1, "millis": 1, "micros": -1, "nanos": -1, "wall": 1},
        **{"money": b"\x01", "record": {"x": "y", "y": None}, "null": None},
    }
    columns = [{"name": name, **possible[-1]} for name, (_, _, possible) in TYPES.items() if possible]
    values = [avro_bytes(plain, {**record, "string": "ä" * n, "long": 10**n * 2}) for n in range(18)]
    source = avro_source(schema, columns)
    found = fast_only(Decoder(source, least=ALWAYS, on_fault=raised)).decode(pa.array(values))
    assert not any(found.broken.to_pylist())
    doubles = found.columns[[each["name"] for each in columns].index("double")].to_pylist()
    assert {math.copysign(1, each) for each in doubles} == {-1.0}
    assert [each.type for each in found.columns] == [each.type for each in decoded(source, values).columns]


def test_a_slice_of_a_batch_has_its_own_records():
    schema = avro_schema(("a", "string"))
    source = avro_source(schema, [{"name": "a", "type": "string"}])
    values = [avro_bytes(schema, {"a": "x" * each}) for each in range(9)]
    part = pa.array([*values[:5], None, *values[5:]], pa.binary()).slice(3, 5)
    found = Decoder(source, least=ALWAYS, on_fault=raised).decode(part)
    assert found.columns[0].to_pylist() == ["xxx", "xxxx", None, "xxxxx", "xxxxxx"]
    assert found.broken.to_pylist() == [False, False, True, False, False]
    assert Decoder(source, least=ALWAYS, on_fault=raised).decode(part.slice(0, 0)).broken.to_pylist() == []


def test_more_records_than_a_block_has_stay_in_their_order():
    schema = avro_schema(("a", "long"), ("b", "string"))
    source = avro_source(schema, [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}])
    values: list[bytes | None] = [avro_bytes(schema, {"a": each, "b": str(each)}) for each in range(21_000)]
    values[10_000] = values[20_999] = b"\x02"
    found = Decoder(source, on_fault=raised).decode(pa.array(values))
    expected = [None if each in {10_000, 20_999} else each for each in range(21_000)]
    assert found.columns[0].to_pylist() == expected
    assert found.columns[1].to_pylist() == [None if each is None else str(each) for each in expected]
    assert found.broken.to_pylist() == [each is None for each in expected]


def zigzag(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63) if number < 2**63 else number
    number &= 2**64 - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


HOSTILE = [
    ("string", zigzag(2**63 - 1)),
    ("string", zigzag(2**63 - 1) + b"abc"),
    ("string", zigzag(-1)),
    ("string", zigzag(-(2**63))),
    ("string", b"\x02\xff"),
    ("string", b"\x06\xed\xa0\x80"),
    ("string", b"\x06\xef\xbf\xbd"),
    ("string", b"\x08\xef\xbf\xbd\xff"),
    ("bytes", b"\x04a"),
    ("long", b"\x80" * 9 + b"\x01"),
    ("long", b"\xff" * 9 + b"\x01"),
    ("long", b"\xff" * 9 + b"\x02"),
    ("long", b"\xff" * 10 + b"\x01"),
    ("long", b"\xff" * 9 + b"\x81\x00"),
    ("long", b"\x82\x80\x00"),
    ("long", b"\x80" * 8 + b"\x01"),
    ("long", b"\x80" * 7 + b"\x01"),
    ("int", zigzag(2**31)),
    ("int", zigzag(-(2**31) - 1)),
    ("int", b"\x80"),
    ("boolean", b"\x02"),
    ("boolean", b""),
    ("double", b"\x00" * 7),
    ("double", struct.pack("<d", math.nan)),
    ("float", struct.pack("<f", -math.inf)),
    (["null", "int"], b"\x01\x02"),
    (["null", "int"], b"\x04\x02"),
    (["null", "int"], b"\x02"),
    (["int", "null"], b"\x02\x02"),
    ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x02"),
    ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x01"),
    ({"type": "fixed", "name": "F", "size": 2**31 - 1}, b"ab"),
]
COLUMN_OF = {"bytes": "binary", "fixed": "binary", "enum": "string"}


@pytest.mark.parametrize(("type_", "value"), HOSTILE, ids=str)
def test_hostile_records_are_judged_as_one_at_a_time_and_cost_no_other(type_, value):
    kind = type_["type"] if isinstance(type_, dict) else type_ if isinstance(type_, str) else "int"
    schema = avro_schema(("n", "int"), ("v", type_))
    source = avro_source(
        schema, [{"name": "n", "type": "int"}, {"name": "v", "type": COLUMN_OF.get(kind, kind)}]
    )
    good = avro_schema(("n", "int"), ("v", "int"))
    values = [
        avro_bytes(good, {"n": 1, "v": 0}),
        b"\x02" + value,
        b"",
        b"\x02" + value,
        b"\x04" + value + b"\x00",
    ]
    decoded(source, values)


def test_an_enum_or_a_record_that_is_named_again_is_read_and_one_that_contains_itself_is_not():
    enum = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
    again = avro_schema(("one", enum), ("two", "E"), ("three", ["null", "E"]))
    columns = [{"name": name, "type": "string"} for name in ("one", "two", "three")]
    value = avro_bytes(again, {"one": "B", "two": "A", "three": "B"})
    found = fast_only(Decoder(avro_source(again, columns), least=ALWAYS, on_fault=raised)).decode(
        pa.array([value])
    )
    assert [each.to_pylist() for each in found.columns] == [["B"], ["A"], ["B"]]
    itself = avro_schema(("n", "int"), ("next", ["null", "Reading"]))
    value = avro_bytes(itself, {"n": 1, "next": {"n": 2, "next": None}})
    source = avro_source(itself, [{"name": "n", "type": "int"}])
    assert decoded(source, [value, json.dumps({}).encode()]).columns[0].to_pylist() == [1, None]


def test_defaults_of_fields_that_the_writer_lacks_are_constants_of_any_type():
    writer = avro_schema(("a", "int"))
    inner = {"type": "record", "name": "In", "fields": [{"name": "x", "type": "int"}]}
    given_by_reader = {
        "l": ({"type": "array", "items": "int"}, [1, 2], "array<int>", [1, 2]),
        "m": ({"type": "map", "values": "int"}, {"k": 1}, "map<string,int>", [("k", 1)]),
        "r": (inner, {"x": 3}, "struct<x:int>", {"x": 3}),
        "n": (["null", "string"], None, "string", None),
        "i": ("int", 7, "long", 7),
    }
    reader = avro_schema(
        ("a", "int"),
        *(
            {"name": name, "type": type_, "default": default}
            for name, (type_, default, _, _) in given_by_reader.items()
        ),
    )
    columns = [{"name": "a", "type": "int"}] + [
        {"name": name, "type": column} for name, (_, _, column, _) in given_by_reader.items()
    ]
    source = avro_source(reader, columns, frozen={"registry": True, "subject": "s", "id": 1})
    values = [framed(2, avro_bytes(writer, {"a": each})) for each in range(3)]
    found = decoded(source, [*values, b"", None], lambda _: {2: writer})
    assert [each.to_pylist()[2] for each in found.columns] == [
        2,
        *(expected for _, _, _, expected in given_by_reader.values()),
    ]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
def test_a_batch_of_a_worker_has_the_fields_beside_its_columns(kind):
    schema = avro_schema(("a", "long"))
    source = avro_source(schema, [{"name": "a", "type": "int"}]).model_dump_json(exclude_defaults=True)
    values = [avro_bytes(schema, {"a": 1}), b"", None, avro_bytes(schema, {"a": 2**31})] * 20
    batch = pa.record_batch({"_value": pa.array(values, kind), "_offset": range(len(values))})
    (found,) = decode_batches(source, None, iter([batch]))
    assert found.schema.names == ["_value", "_offset", "_field_a", "_mark_a", "_broken_record"]
    assert found.column("_field_a").to_pylist() == [1, None, None, None] * 20
    assert found.column("_mark_a").to_pylist() == [None, None, None, True] * 20
    assert found.column("_broken_record").to_pylist() == [False, True, True, False] * 20
