"""A changed schema and the records that are there: what is allowed, and what is refused and why."""

from __future__ import annotations

from typing import Any

import pytest
from proto_files import compiled
from record_schemas import avro_schema, avro_source, protobuf_source

from headgate.contract.model import Source
from headgate.formats.compat import unreadable_after

COLUMN = [{"name": "a", "type": "long"}]
REGISTRY = {"registry": True, "subject": "s", "id": 1}
OLD = avro_schema(("a", "int"), ("b", "string"))


def plain(schema: str) -> Source:
    return avro_source(schema, COLUMN)


def registered(schema: str) -> Source:
    return avro_source(schema, COLUMN, frozen=REGISTRY)


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        avro_schema(("a", "int"), ("b", "string"), doc="better said"),
        avro_schema(("a", "int"), {"name": "c", "type": "string", "aliases": ["b"]}),
        avro_schema(("a", "int"), {"name": "b", "type": "string", "default": "x"}),
    ],
)
def test_plain_avro_may_change_its_names_and_words(new):
    assert unreadable_after(plain(OLD), plain(new)) is None


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (avro_schema(("a", "long"), ("b", "string")), "`a` was int and becomes long"),
        (avro_schema(("a", "int")), "the field `b` is gone"),
        (avro_schema(("a", "int"), ("b", "string"), ("c", "int")), "the field `c` is new"),
        (avro_schema(("b", "string"), ("a", "int")), "the field `b` stands where `a` was"),
        (avro_schema(("a", ["null", "int"]), ("b", "string")), "`a` was int and becomes a union"),
    ],
)
def test_plain_avro_must_keep_its_layout(new, says):
    found = unreadable_after(plain(OLD), plain(new))
    assert found is not None
    assert found.startswith(says)
    assert "carry no schema's id" in found


def nested(inner: Any) -> str:
    return avro_schema(("a", "long"), ("r", {"type": "record", "name": "In", "fields": inner}))


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ({"type": "enum", "name": "E", "symbols": ["x", "y"]}, ["y", "x"], "other symbols"),
        ({"type": "fixed", "name": "X", "size": 2}, 3, "another size"),
        ({"type": "array", "items": "int"}, "long", "an item of `v` was int and becomes long"),
        ({"type": "map", "values": "int"}, "long", "a value of `v` was int and becomes long"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "timestamp-micros", "timestamp-micros"),
    ],
)
def test_plain_avro_must_keep_the_layout_inside(one, other, says):
    key = {"enum": "symbols", "fixed": "size", "array": "items", "map": "values", "long": "logicalType"}
    before = nested([{"name": "v", "type": one}])
    after = nested([{"name": "v", "type": {**one, key[one["type"]]: other}}])
    found = unreadable_after(plain(before), plain(after))
    assert found is not None
    assert says in found


def test_a_new_symbol_at_the_end_of_an_enum_is_allowed():
    symbols = [["x", "y"], ["x", "y", "z"]]
    schemas = [
        nested([{"name": "v", "type": {"type": "enum", "name": "E", "symbols": each}}]) for each in symbols
    ]
    assert unreadable_after(plain(schemas[0]), plain(schemas[1])) is None


def named(name: str, *fields: str) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": each, "type": "double"} for each in fields]}


PLACE = named("P", "lat", "lon")
TWICE = avro_schema(("a", PLACE), ("b", "P"))


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (
            avro_schema(("a", PLACE), ("b", named("Q", "lon", "lat"))),
            "the field `lon` stands where `lat` was",
        ),
        (avro_schema(("a", PLACE), ("b", "string")), "`b` was record and becomes string"),
        (avro_schema(("a", PLACE), ("b", named("Q", "lat"))), "the field `lon` is gone"),
        (avro_schema(("a", PLACE), ("b", named("Q", "lat", "lon"))), None),
        (avro_schema(("a", named("Q", "lat", "lon")), ("b", "Q")), None),
    ],
    ids=["other order", "other type", "fewer", "other name", "both of another name"],
)
def test_plain_avro_must_keep_the_layout_of_a_type_that_is_named_again(new, says):
    found = unreadable_after(plain(TWICE), plain(new))
    assert found is None if says is None else str(found).startswith(says)


def test_a_reference_is_not_laid_out_like_another_type():
    split = avro_schema(("a", PLACE), ("b", named("Q", "lat", "lon")))
    merged = avro_schema(("a", named("Q", "lat", "lon", "alt")), ("b", "Q"))
    assert unreadable_after(plain(split), plain(TWICE)) is None
    assert "the field `alt` is new" in str(unreadable_after(plain(split), plain(merged)))


def test_a_record_that_contains_itself_is_compared_once():
    before, after = (avro_schema(("a", type_), ("next", ["null", "Reading"])) for type_ in ("int", "long"))
    assert unreadable_after(plain(before), plain(before + " ")) is None
    assert "`a` was int and becomes long" in str(unreadable_after(plain(before), plain(after)))


@pytest.mark.parametrize(
    "new",
    [
        avro_schema(("a", "long"), ("b", "string")),
        avro_schema(("a", "int")),
        avro_schema({"name": "c", "type": "int", "default": 0}, ("a", "int")),
    ],
)
def test_with_a_registry_what_resolves_is_allowed(new):
    assert unreadable_after(registered(OLD), registered(new)) is None


def test_with_a_registry_what_does_not_resolve_is_refused_with_the_reason():
    source = avro_source(avro_schema(("new", "long")), [{"name": "new", "type": "long"}], frozen=REGISTRY)
    found = unreadable_after(registered(OLD), source)
    assert found is not None
    assert "a record written without `new` cannot be read: it has no default" in found


def test_another_format_or_frame_is_refused():
    json_source = Source.model_validate({"topic": "t", "columns": COLUMN})
    found = unreadable_after(json_source, plain(OLD))
    assert found == "the records that are there are JSON, and would be read as Avro"
    found = unreadable_after(plain(OLD), registered(OLD))
    assert found is not None
    assert found.endswith("as Avro in the registry's wire format")
    assert unreadable_after(json_source, json_source) is None


def message(fields: str) -> Source:
    return protobuf_source(compiled(fields), "shop.Order", COLUMN)


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ("int64 a = 1; string b = 2;", None),
        ("int64 a = 1; bytes b = 2; bool c = 3;", None),
        ("int64 a = 1;", None),
        ("int32 a = 1; string b = 2; Order more = 3;", None),
        ("sint64 a = 1;", "field 1, `a`, of `Order` has another type"),
        ("int64 a = 1; repeated string b = 2;", "field 2, `b`, of `Order` has another type"),
        ("int64 b = 1; int64 a = 2;", "field 1 of `Order` was `a` and becomes `b`"),
    ],
)
def test_protobuf_must_keep_what_its_numbers_mean(new, says):
    found = unreadable_after(message("int32 a = 1; string b = 2;"), message(new))
    if says is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(says)


WIDER = [
    ("bool", "int32"),
    ("bool", "uint64"),
    ("int32", "int64"),
    ("uint32", "int64"),
    ("uint32", "uint64"),
    ("int32", "Kind"),
    ("Kind", "int32"),
    ("sint32", "sint64"),
    ("string", "bytes"),
]
NARROWER = [
    ("int64", "int32"),
    ("int64", "bool"),
    ("int64", "uint64"),
    ("uint64", "int64"),
    ("uint32", "int32"),
    ("int32", "uint32"),
    ("int32", "uint64"),
    ("int64", "Kind"),
    ("Kind", "bool"),
    ("Kind", "uint32"),
    ("sint64", "sint32"),
    ("fixed32", "sfixed32"),
    ("sfixed64", "fixed64"),
    ("bytes", "string"),
]
KIND = "enum Kind { NONE = 0; SALE = 1; }"


@pytest.mark.parametrize(("old", "new"), WIDER)
def test_a_type_of_protobuf_may_become_one_that_has_all_its_values(old, new):
    assert unreadable_after(message(f"{old} a = 1; {KIND}"), message(f"{new} a = 1; {KIND}")) is None


@pytest.mark.parametrize(("old", "new"), NARROWER)
def test_a_type_of_protobuf_must_not_become_one_that_lacks_some_of_its_values(old, new):
    found = unreadable_after(message(f"{old} a = 1; {KIND}"), message(f"{new} a = 1; {KIND}"))
    words = [word.replace("Kind", "enum") for word in (old, new)]
    assert str(found).startswith(
        f"field 1, `a`, of `Order` has another type: not all of {words[0]} is {words[1]}"
    )


@pytest.mark.parametrize(
    ("symbols", "says"),
    [
        ("NONE = 0; SALE = 1; GIFT = 2;", None),
        ("NONE = 0; GIFT = 1; SALE = 2;", "number 1 of the enum `Kind` was `SALE` and becomes `GIFT`"),
        ("NONE = 0;", "number 1 of the enum `Kind` was `SALE` and is gone"),
    ],
    ids=["more", "moved", "fewer"],
)
def test_an_enum_of_protobuf_must_keep_the_names_of_its_numbers(symbols, says):
    old, new = message(f"Kind a = 1; {KIND}"), message(f"Kind a = 1; enum Kind {{ {symbols} }}")
    found = unreadable_after(old, new)
    assert found is None if says is None else str(found).startswith(says)


def test_a_message_inside_itself_is_compared_with_what_becomes_of_it():
    old = message("int32 a = 1; Order next = 2;")
    assert unreadable_after(old, message("int64 a = 1; Order next = 2;")) is None
    found = unreadable_after(old, message("int32 a = 1; Other next = 2; message Other { bool a = 1; }"))
    assert str(found).startswith("field 1, `a`, of `Order` has another type")


def test_a_closed_enum_takes_no_numbers_but_its_own():
    closed = protobuf_source(compiled(f"optional Kind a = 1; {KIND}", syntax="proto2"), "shop.Order", COLUMN)
    whole = protobuf_source(compiled("optional int32 a = 1;", syntax="proto2"), "shop.Order", COLUMN)
    opened = message(f"Kind a = 1; {KIND}")
    assert unreadable_after(closed, whole) is None
    assert unreadable_after(closed, opened) is None
    assert "not all of int32 is closed enum" in str(unreadable_after(whole, closed))
    assert "not all of enum is closed enum" in str(unreadable_after(opened, closed))
