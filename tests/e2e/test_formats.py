"""Avro and Protobuf through the driver's own decoding and screening, and from a file to a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from contract_examples import contract_of
from record_schemas import avro_bytes, avro_schema
from spark_batch import ARRIVED, Judged, judge, spark_session

from headgate.contract.model import Source
from headgate.formats.encode import encoder
from headgate.formats.protobuf import compile_proto

__all__ = ["spark_session"]

pytestmark = pytest.mark.e2e

PARSE = ("_parse",)
NOON = datetime(2025, 10, 1, 12, tzinfo=UTC)
MILLIS = 1_759_320_000_000
Judge = Callable[..., list[Judged]]

READING = avro_schema(
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ("wall", ["null", {"type": "long", "logicalType": "local-timestamp-millis"}]),
    ("text_at", ["null", "string"]),
    ("n", ["null", "long"]),
    ("text_n", ["null", "string"]),
    ("d", ["null", "double"]),
    ("s", ["null", "string"]),
    ("m", ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}]),
    ("day", ["null", {"type": "int", "logicalType": "date"}]),
    ("raw", ["null", "bytes"]),
    ("kind", ["null", {"type": "enum", "name": "Kind", "symbols": ["RED", "BLUE"]}]),
    ("a", ["null", {"type": "array", "items": "long"}]),
    ("tags", ["null", {"type": "map", "values": "int"}]),
    ("unknown", ["null", "string"]),
)
COLUMNS = [
    {"name": "at", "type": "timestamp", "required": True},
    {"name": "wall", "type": "timestamp", "zone": "Europe/Paris"},
    {"name": "text_at", "type": "timestamp", "zone": "Europe/Paris"},
    {"name": "n", "type": "int", "required": True},
    {"name": "text_n", "type": "int"},
    {"name": "d", "type": "double"},
    {"name": "s", "type": "string"},
    {"name": "m", "type": "decimal(10,2)"},
    {"name": "day", "type": "date"},
    {"name": "raw", "type": "binary"},
    {"name": "kind", "type": "string"},
    {"name": "a", "type": "array<int>"},
    {"name": "tags", "type": "map<string,long>"},
]
AVRO = {
    "topic": "t",
    "format": "avro",
    "schema": {"file": "reading.avsc", "text": READING},
    "columns": COLUMNS,
    "event_time": {"column": "at", "watermark": "10 minutes", "max_future": "10 minutes"},
    "rules": [{"name": "small", "expect": "n < 100"}],
}


@pytest.fixture(scope="module")
def judged(spark_session) -> Judge:
    def run(source: Mapping[str, Any], values: Sequence[bytes | None], **more: Any) -> list[Judged]:
        return judge(spark_session, contract_of({"a": dict(source)}), "a", values, **more)

    return run


def reading(**values: Any) -> bytes:
    empty = {field["name"]: None for field in json.loads(READING)["fields"]}
    return avro_bytes(READING, {**empty, "at": MILLIS, "n": 1, **values})


def test_avro_values_arrive_as_their_columns(judged):
    (one,) = judged(
        AVRO,
        [
            reading(
                wall=MILLIS,
                text_at="2025-10-01 12:00:00",
                text_n="12",
                d=1.5,
                s="ä",
                m=Decimal("1.50"),
                day=date(2025, 1, 2),
                raw=b"\xff",
                kind="BLUE",
                a=[1, 2],
                tags={"x": 1},
                unknown="?",
            )
        ],
    )
    assert one.good
    at_paris = datetime(2025, 10, 1, 10, tzinfo=UTC)  # noon on a clock in Paris
    assert dict(one.row) == {
        "at": NOON,
        "wall": at_paris,
        "text_at": at_paris,
        "n": 1,
        "text_n": 12,
        "d": 1.5,
        "s": "ä",
        "m": Decimal("1.50"),
        "day": date(2025, 1, 2),
        "raw": bytearray(b"\xff"),
        "kind": "BLUE",
        "a": [1, 2],
        "tags": {"x": 1},
        "_key": bytearray(b"k"),
        "_topic": "t",
        "_partition": 0,
        "_offset": 0,
        "_arrival": ARRIVED,
    }


HOSTILE: list[tuple[bytes | None, tuple[str, ...]]] = [
    (None, PARSE),
    (b"", PARSE),
    (b"\x00", PARSE),
    (b"{}", PARSE),
    (b'{"at": "2025-10-01 12:00:00", "n": 1}', PARSE),
    (b"\xff" * 1000, PARSE),
    (reading()[:-1], PARSE),
    (reading() + b"\x00", PARSE),
    (reading() + reading(), PARSE),
    (reading(s="ab").replace(b"ab", b"\xc0\xaf"), PARSE),
    (b"\x00\x00\x00\x00\x01" + reading(), PARSE),  # a registry's frame, where none is expected
    (reading(n=None), ("_missing_n",)),
    (reading(n=2**31), ("_unreadable_n",)),
    (reading(text_n="twelve"), ("_unreadable_text_n",)),
    (reading(text_at="yesterday"), ("_unreadable_text_at",)),
    (reading(d=float("nan")), ("_unreadable_d",)),
    (reading(a=[1, 2**40]), ("_unreadable_a",)),
    (reading(at=2**60), ("_no_event_time",)),
    (reading(at=MILLIS + 365 * 86_400_000), ("_future",)),
    (reading(n=100), ("small",)),
    (reading(), ()),
]


def test_what_is_no_record_of_the_schema_is_quarantined_with_its_reason(judged):
    found = judged(AVRO, [value for value, _ in HOSTILE])
    wrong = [
        (one.value, one.reasons, wanted)
        for one, (_, wanted) in zip(found, HOSTILE, strict=True)
        if one.reasons != wanted
    ]
    assert wrong == []


@pytest.mark.parametrize("share", [0, 1, 10, 100])
def test_any_share_of_bad_records_costs_those_alone(judged, share):
    values = [b"\xff\xfe" if number % 100 < share else reading(n=number % 50) for number in range(3000)]
    found = judged(AVRO, values)
    assert [one.good for one in found] == [number % 100 >= share for number in range(3000)]
    assert all(one.row["n"] == number % 50 for number, one in enumerate(found) if one.good)


PROTO = """\
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Other { int32 x = 1; }
message Order {
  enum Kind { NONE = 0; SALE = 1; }
  google.protobuf.Timestamp at = 1;
  uint64 id = 2;
  optional double amount = 3;
  string shop = 4;
  Kind kind = 5;
  repeated string tags = 6;
  map<string, int64> counts = 7;
  Other inside = 8;
}
"""


def protobuf(folder) -> dict[str, Any]:
    (folder / "order.proto").write_text(PROTO)
    return {
        "topic": "t",
        "format": "protobuf",
        "schema": {
            "file": "order.proto",
            "message": "shop.Order",
            "text": compile_proto(folder / "order.proto", folder),
        },
        "columns": [
            {"name": "at", "type": "timestamp", "required": True},
            {"name": "id", "type": "long"},
            {"name": "amount", "type": "double", "required": True},
            {"name": "shop", "type": "string"},
            {"name": "kind", "type": "string"},
            {"name": "tags", "type": "array<string>"},
            {"name": "counts", "type": "map<string,int>"},
            {"name": "inside", "type": "struct<x:int>"},
        ],
        "event_time": {"column": "at"},
    }


def test_protobuf_values_arrive_as_their_columns_and_what_is_none_is_quarantined(judged, tmp_path):
    source = protobuf(tmp_path)
    encode = encoder(Source.model_validate(source), {"at": lambda text: MILLIS * 1000})
    whole = {
        "at": "now",
        "id": 7,
        "amount": 0.0,
        "shop": "ä",
        "kind": "SALE",
        "tags": ["x", "y"],
        "counts": {"a": 1},
        "inside": {"x": 3},
    }
    good, bare = encode(whole), encode({"at": "now", "amount": 1})
    values = [
        good,
        bare,
        encode({**whole, "amount": None}),
        encode({**whole, "id": 2**63}),
        good[:-1],
        None,
        b"",
    ]
    found = judged(source, values)
    assert [one.reasons for one in found] == [
        (),
        (),
        ("_missing_amount",),
        ("_unreadable_id",),
        PARSE,
        PARSE,
        ("_no_event_time", "_missing_amount"),  # an empty message is one: without event time
    ]
    shown = {name: found[0].row[name] for name in whole}
    assert shown == {**whole, "at": NOON, "inside": (3,)}
    empty = {"id": 0, "shop": "", "kind": "NONE", "tags": [], "counts": {}, "inside": None}
    assert {name: found[1].row[name] for name in empty} == empty
