"""JSON records written by a schema are read again as what they were."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from both_roads import decoded
from proto_files import compiled
from record_schemas import avro_schema, avro_source, protobuf_source

from headgate.errors import RefusedError
from headgate.formats.encode import UnencodableError, encoder

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MICROS = int(NOON.timestamp()) * 1_000_000


def logical(type_: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": type_, "logicalType": name, **more}


DIGITS = "12345678901234567890123456789012345.67"
LARGE = logical("bytes", "decimal", precision=38, scale=2)


def again(type_: Any, value: Any, column: str) -> Any:
    """The value of a JSON record after it was written and read."""
    source = avro_source(avro_schema(("v", type_)), [{"name": "v", "type": column}])
    body = encoder(source, {})({"v": value})
    return decoded(source, [body]).columns[0].to_pylist()[0]


@pytest.mark.parametrize(
    ("type_", "value", "column", "expected"),
    [
        ("boolean", True, "boolean", True),
        ("boolean", "false", "boolean", False),
        ("long", 5, "long", 5),
        ("long", "5", "string", "5"),
        ("double", 5, "double", 5.0),
        ("string", "ä", "string", "ä"),
        ("string", 12, "int", "12"),
        ("bytes", base64.b64encode(b"\xff").decode(), "binary", b"\xff"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "string", "B"),
        (logical("bytes", "decimal", precision=9, scale=2), 12.5, "decimal(9,2)", Decimal("12.50")),
        (logical("bytes", "decimal", precision=9, scale=2), "-0.01", "decimal(9,2)", Decimal("-0.01")),
        (
            {"type": "fixed", "name": "D", "size": 8, "logicalType": "decimal", "precision": 9, "scale": 2},
            -1,
            "decimal(9,2)",
            Decimal("-1.00"),
        ),
        (logical("long", "timestamp-millis"), "2026-01-02T12:00:00Z", "timestamp", NOON),
        (["null", "int"], None, "int", None),
        (["null", "int"], 3, "int", 3),
        (["string", "long"], 3, "string", "3"),
        (["double", "long"], 2**53 + 1, "decimal(20,0)", Decimal(2**53 + 1)),
        (["float", "int"], 2**24 + 1, "decimal(20,0)", Decimal(2**24 + 1)),
        (["double", "long"], 1.5, "decimal(20,1)", Decimal("1.5")),
        (LARGE, "12345678901234567890123456789012345.67", "decimal(38,2)", Decimal(DIGITS)),
        (LARGE, Decimal(DIGITS), "decimal(38,2)", Decimal(DIGITS)),
        (LARGE, "-" + "9" * 36 + ".99", "decimal(38,2)", Decimal("-" + "9" * 36 + ".99")),
        (LARGE, "0e50", "decimal(38,2)", Decimal("0.00")),
        ("double", Decimal("12345678901234567.89"), "double", 12345678901234567.89),
        ("string", Decimal("12345678901234567.89"), "string", "12345678901234567.89"),
        ("string", [Decimal("12345678901234567.89"), "ä"], "string", '[12345678901234567.89, "ä"]'),
        ({"type": "array", "items": ["null", "int"]}, [1, None], "array<int>", [1, None]),
        ({"type": "map", "values": "double"}, {"a": 1}, "map<string,double>", [("a", 1.0)]),
    ],
    ids=str,
)
def test_avro_comes_back_as_it_went(type_, value, column, expected):
    assert again(type_, value, column) == expected


def test_absent_fields_have_the_schemas_default_or_null_and_others_are_left_out():
    schema = avro_schema(("a", "int"), {"name": "b", "type": "int", "default": 7}, ("c", ["null", "int"]))
    columns = [{"name": name, "type": "int"} for name in "abc"]
    source = avro_source(schema, columns)
    body = encoder(source, {})({"a": 1, "more": [1]})
    assert [each.to_pylist() for each in decoded(source, [body]).columns] == [[1], [7], [None]]


@pytest.mark.parametrize(
    ("type_", "value", "says"),
    [
        ("int", 2**31, "`v`: 2147483648 is not a whole number"),
        ("int", True, "`v`: True is not"),
        ("int", "x", "`v`: 'x' is not"),
        ("boolean", 1, "`v`: 1 is not a boolean"),
        ("bytes", "no base64!", "`v`: 'no base64!' is not bytes"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "B", "`v`: 'B' is not a name out of an enum"),
        (logical("bytes", "decimal", precision=4, scale=1), 1.25, "`v`: 1.25 is not a decimal(4,1)"),
        (logical("bytes", "decimal", precision=4, scale=1), 1000, "`v`: 1000 is not"),
        (LARGE, Decimal("12345678901234567.891"), "`v`: 12345678901234567.891 is not a decimal(38,2)"),
        (LARGE, "1." + "0" * 500 + "1", "is not a decimal(38,2)"),
        (LARGE, "1e999999999", "`v`: '1e999999999' is not a decimal(38,2)"),
        (LARGE, "NaN", "`v`: 'NaN' is not a decimal(38,2)"),
        ("double", Decimal("1e400"), "`v`: 1E+400 is not a floating-point number"),
        ("double", "1e400", "`v`: '1e400' is not a floating-point number"),
        ("float", 1e39, "`v`: 1e+39 is not a floating-point number"),
        (logical("long", "timestamp-millis"), "soon", "`v`: 'soon' is not a moment"),
        ({"type": "record", "name": "In", "fields": []}, 5, "`v`: 5 is not an object"),
    ],
    ids=str,
)
def test_what_does_not_fit_says_the_field_and_why(type_, value, says):
    with pytest.raises(UnencodableError) as caught:
        again(type_, value, "string")
    assert says in str(caught.value)


def test_a_required_field_that_is_absent_does_not_fit():
    source = avro_source(avro_schema(("a", "int")), [{"name": "a", "type": "int"}])
    with pytest.raises(UnencodableError):
        encoder(source, {})({})


PROTO = """
  uint64 id = 1; optional double amount = 2; string shop = 3; Kind kind = 4; repeated sint32 many = 5;
  map<int32, string> names = 6; In inside = 7; repeated In more = 8; bytes raw = 9; map<string, In> by = 10;
  enum Kind { NONE = 0; SALE = 2; } message In { int32 x = 1; }
"""
WHOLE: dict[str, Any] = {
    "id": 2**64 - 1,
    "amount": 0.0,
    "shop": "ä",
    "kind": "SALE",
    "many": [-1, 2],
    "names": {"1": "one"},
    "inside": {"x": 3},
    "more": [{"x": 4}, {}],
    "raw": "/w==",
    "by": {"a": {"x": 5}},
}
TYPES = {
    "id": "decimal(20,0)",
    "amount": "double",
    "shop": "string",
    "kind": "string",
    "many": "array<int>",
    "names": "map<int,string>",
    "inside": "struct<x:int>",
    "more": "array<struct<x:int>>",
    "raw": "binary",
    "by": "map<string,struct<x:int>>",
}


def test_protobuf_comes_back_as_it_went():
    columns = [{"name": name, "type": type_} for name, type_ in TYPES.items()]
    source = protobuf_source(compiled(PROTO), "shop.Order", columns)
    encode = encoder(source, {})
    found = decoded(source, [encode(WHOLE), encode({})])
    lists = [column.to_pylist() for column in found.columns]
    first, empty = ({name: each[row] for name, each in zip(TYPES, lists, strict=True)} for row in (0, 1))
    assert first == {
        **WHOLE,
        "id": Decimal(2**64 - 1),
        "names": [(1, "one")],
        "more": [{"x": 4}, {"x": 0}],
        "raw": b"\xff",
        "by": [("a", {"x": 5})],
    }
    assert (empty["amount"], empty["inside"], empty["kind"], empty["shop"]) == (None, None, "NONE", "")
    for bad in ({"id": -1}, {"kind": "SALES"}, {"inside": 3}, {"many": 3}, {"raw": "é"}):
        with pytest.raises(UnencodableError):
            encode(bad)


def test_records_of_a_registry_are_framed_with_the_schemas_id():
    schema = avro_schema(("a", "int"))
    frozen = {"registry": True, "subject": "s", "id": 300}
    source = avro_source(schema, [{"name": "a", "type": "int"}], frozen=frozen)
    assert encoder(source, {})({"a": 1}) == b"\x00\x00\x00\x01\x2c\x02"
    text = compiled("int32 a = 1;")
    source = protobuf_source(text, "shop.Order", [{"name": "a", "type": "int"}], frozen=frozen)
    body = encoder(source, {})({"a": 1})
    assert body == b"\x00\x00\x00\x01\x2c\x00\x08\x01"
    assert decoded(source, [body]).columns[0].to_pylist() == [1]


def test_a_schema_that_was_not_frozen_is_refused_with_the_next_command():
    source = avro_source(json.dumps({}), [], frozen={"registry": True, "subject": "s"})
    with pytest.raises(RefusedError, match="not known yet"):
        encoder(source, {})
