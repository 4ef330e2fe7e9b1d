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
