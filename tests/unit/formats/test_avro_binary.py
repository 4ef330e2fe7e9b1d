"""Avro's binary encoding: what fastavro writes is read as it was meant, and nothing else is a record."""

from __future__ import annotations

import json
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_schemas import avro_bytes, avro_schema

from headgate.formats.avro_binary import MALFORMED, record_reader

NESTED = avro_schema(
    ("n", "null"),
    ("b", "boolean"),
    ("i", "int"),
    ("l", "long"),
    ("f", "float"),
    ("d", "double"),
    ("s", "string"),
    ("y", "bytes"),
    ("e", {"type": "enum", "name": "E", "symbols": ["a", "b"]}),
    ("x", {"type": "fixed", "name": "X", "size": 3}),
    ("u", ["null", "long", "string"]),
    ("a", {"type": "array", "items": "int"}),
    ("m", {"type": "map", "values": ["null", "int"]}),
    ("r", {"type": "record", "name": "R", "fields": [{"name": "again", "type": "E"}]}),
)
LONGS = st.integers(-(2**63), 2**63 - 1)
RECORDS = st.fixed_dictionaries(
    {
        "n": st.none(),
        "b": st.booleans(),
        "i": st.integers(-(2**31), 2**31 - 1),
        "l": LONGS,
        "f": st.floats(width=32, allow_nan=False),
        "d": st.floats(allow_nan=False),
        "s": st.text(st.characters(exclude_categories=["Cs"])),
        "y": st.binary(),
        "e": st.sampled_from(["a", "b"]),
        "x": st.binary(min_size=3, max_size=3),
        "u": st.one_of(st.none(), LONGS, st.text(st.characters(exclude_categories=["Cs"]))),
        "a": st.lists(st.integers(-(2**31), 2**31 - 1)),
        "m": st.dictionaries(st.text("abc"), st.one_of(st.none(), st.integers(0, 9))),
        "r": st.fixed_dictionaries({"again": st.sampled_from(["a", "b"])}),
    }
)


def reader(schema: str) -> Any:
    return record_reader(fastavro.parse_schema(json.loads(schema)))


@settings(deadline=None)
@given(RECORDS)
def test_what_was_written_is_read_again(record):
    assert reader(NESTED)(avro_bytes(NESTED, record)) == record


@settings(deadline=None)
@given(RECORDS, st.data())
def test_no_beginning_of_a_record_is_a_record(record, data):
    value = avro_bytes(NESTED, record)
    cut = value[: data.draw(st.integers(0, len(value) - 1))]
    with pytest.raises(MALFORMED):
        reader(NESTED)(cut)


@settings(deadline=None)
@given(RECORDS, st.binary(min_size=1, max_size=4))
def test_nothing_may_stand_behind_a_record(record, tail):
    with pytest.raises(MALFORMED):
        reader(NESTED)(avro_bytes(NESTED, record) + tail)


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_a_record_or_malformed_and_never_anything_else(value):
    try:
        found = reader(NESTED)(value)
    except MALFORMED:
        return
    assert set(found) == set(json.loads(NESTED)["fields"][i]["name"] for i in range(14))


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("boolean", b"\x02"),
        ("int", b"\x80\x80\x80\x80\x80\x01"),  # a long
        ("long", b"\xff" * 10 + b"\x01"),
        ("long", b"\xff" * 9 + b"\x7f"),  # ten bytes, and more than 64 bits
        ("string", b"\x04\xc0\xaf"),
        ("string", b"\x01"),  # minus one byte
        ("bytes", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ({"type": "enum", "name": "E", "symbols": ["a", "b"]}, b"\x01"),  # minus one
        ({"type": "enum", "name": "E", "symbols": ["a", "b"]}, b"\x04"),
        (["null", "int"], b"\x01"),
        (["null", "int"], b"\x04"),
        ({"type": "array", "items": "int"}, b"\x02\x02"),  # no end
        ({"type": "array", "items": "int"}, b"\x01\x04\x02\x00"),  # a block of another size
        ({"type": "array", "items": "null"}, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"),
        ({"type": "array", "items": {"type": "fixed", "name": "Z", "size": 0}}, b"\x80\x89\x7a\x00"),
        ({"type": "map", "values": "null"}, b"\x80\x89\x7a\x00"),
    ],
    ids=str,
)
def test_what_other_readers_let_pass_is_malformed(type_, value):
    with pytest.raises(MALFORMED):
        reader(avro_schema(("v", type_)))(value)


def empty_items(*counts: int) -> bytes:
    """An array of arrays with so many items each, of a type that takes no bytes."""
    arrays = [_count(each) + b"\x00" for each in counts]
    return _count(len(arrays)) + b"".join(arrays) + b"\x00"


def _count(number: int) -> bytes:
    """As Avro writes a whole number."""
    encoded, number = bytearray(), number << 1
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]}


@pytest.mark.parametrize("item", ["null", NOTHING], ids=["null", "record"])
def test_items_without_bytes_are_bounded_for_the_whole_record(item):
    read = reader(avro_schema(("v", {"type": "array", "items": {"type": "array", "items": item}})))
    assert [len(each) for each in read(empty_items(6_000, 4_000))["v"]] == [6_000, 4_000]
    assert len(read(empty_items(10_000))["v"][0]) == 10_000  # the record before took nothing from this one
    for counts in [(6_000, 4_001), (10_000,) * 50]:
        with pytest.raises(MALFORMED, match="10000 items without bytes"):
            read(empty_items(*counts))


def test_blocks_that_say_their_size_are_read():
    schema = avro_schema(("v", {"type": "array", "items": "int"}))
    assert reader(schema)(b"\x03\x04\x02\x04\x00") == {"v": [1, 2]}


def test_a_record_nested_deeper_than_any_stack_is_malformed():
    schema = avro_schema(("next", ["null", "Reading"]))
    assert reader(schema)(b"\x02\x02\x00") == {"next": {"next": {"next": None}}}
    with pytest.raises(MALFORMED):
        reader(schema)(b"\x02" * 1_000_000 + b"\x00")
