"""Avro and Protobuf through the driver's own decoding, screening and record query, without a broker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from contract_examples import contract_of
from record_batches import RecordBatches, copying
from record_schemas import Versions, avro_bytes, avro_schema
from spark_batch import ARRIVED, Judged, judge, kafka_frame, spark_session

from headgate.contract.model import Source
from headgate.formats.desk import SchemaDesk
from headgate.formats.encode import encoder
from headgate.formats.learned import Learned
from headgate.formats.proto_compiler import compile_proto
from spark import quarantine
from spark.decode import raw_columns
from spark.screen import screen

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


def test_a_record_is_decoded_once_to_be_judged_and_for_its_columns(spark_session):
    raw = raw_columns(kafka_frame(spark_session, [reading()]))
    good = screen(raw, contract_of({"a": AVRO}), "a").good()
    plan = good._jdf.queryExecution().optimizedPlan().toString()
    assert plan.count("MapInArrow") == 1, plan
    assert "Filter" in plan


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


def spoiled(number: int) -> bytes:
    """Bytes that are a record of neither format, each other ones."""
    return b"\xff" + number.to_bytes(4, "big") + b"\xff" * 20


@pytest.mark.parametrize("format_", ["avro", "protobuf"])
@pytest.mark.parametrize("bad", [0, 1, 100, 1_000, 10_000], ids=["0", "0.01", "1", "10", "100 percent"])
def test_any_share_of_bad_records_costs_those_alone_and_keeps_their_bytes(
    spark_session, tmp_path, monkeypatch, format_, bad
):
    # More than this are written by Spark itself.
    monkeypatch.setattr(quarantine, "COLLECT_ROWS", 5_000)
    source = {"topic": "t", "format": format_, "columns": [{"name": "n", "type": "long"}]}
    if format_ == "avro":
        source["schema"] = {"file": "n.avsc", "text": avro_schema(("n", "long"))}
    else:
        (tmp_path / "n.proto").write_text('syntax = "proto3"; message N { int64 n = 1; }')
        text = compile_proto(tmp_path / "n.proto", tmp_path)
        source["schema"] = {"file": "n.proto", "message": "N", "text": text}
    encode = encoder(Source.model_validate(source), {})
    every = 10_000 // bad if bad else 20_000
    values = [spoiled(n) if n % every == every - 1 else encode({"n": n}) for n in range(10_000)]
    wrong = {n for n in range(10_000) if n % every == every - 1}
    batches = RecordBatches(spark_session, tmp_path / "t", copying(source, {"n": "long"}))
    total = batches.run(values).batch
    assert (total.read, total.good, total.quarantined) == (10_000, 10_000 - bad, bad)
    assert total.rules == ({"_parse": bad} if bad else {})
    assert {row["n"] for row in batches.rows("copy")} == {*range(10_000)} - wrong
    kept = {(row["offset"], row["value"], tuple(row["rules"])) for row in batches.rows("_quarantine")}
    assert kept == {(n, spoiled(n), PARSE) for n in wrong}


def test_records_of_several_schemas_are_read_each_by_its_own(spark_session, tmp_path):
    reader = avro_schema(("id", "long"), {"name": "name", "type": "string", "aliases": ["label"]})
    writer = avro_schema(("label", "string"), ("id", "int"))
    source = {
        "topic": "t",
        "format": "avro",
        "schema": {"registry": True, "subject": "s", "id": 1, "version": 1, "text": reader},
        "columns": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}],
    }
    head = {number: b"\x00" + number.to_bytes(4, "big") for number in (1, 2, 3)}
    values = [
        head[1] + avro_bytes(reader, {"id": 1, "name": "new"}),
        head[2] + avro_bytes(writer, {"id": 2, "label": "old"}),
        head[3] + avro_bytes(writer, {"id": 3, "label": "nobody knows"}),
        avro_bytes(reader, {"id": 4, "name": "bare"}),
    ]
    versions = Versions({2: writer})
    waits: list[str | None] = []
    desk = SchemaDesk(
        {"a": Source.model_validate(source)},
        versions,
        Learned(tmp_path / "learned.jsonl"),
        stopping=lambda _: False,
        waiting=waits.append,
    )
    frozen = copying(source, {"id": "long", "name": "string"})
    batches = RecordBatches(spark_session, tmp_path / "t", frozen, desk.askers["a"])
    try:
        total = batches.run(values).batch
        assert (total.read, total.good, total.quarantined) == (4, 2, 2)
        assert [(row["id"], row["name"]) for row in batches.rows("copy")] == [(1, "new"), (2, "old")]
        assert {row["value"] for row in batches.rows("_quarantine")} == {*values[2:]}
        # What was nobody's record in one batch is none in the next one, whatever was registered meanwhile.
        versions.texts[3] = writer
        assert batches.run(values, 1).batch.quarantined == 2
    finally:
        desk.close()
