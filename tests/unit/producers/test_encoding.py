"""What `headgate produce` makes of JSON for a source with a schema."""

from __future__ import annotations

import itertools
import json
import random
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from both_roads import decoded
from proto_files import compiled
from record_schemas import avro_schema, avro_source, protobuf_source

from headgate.contract.model import Source
from headgate.errors import HeadgateError
from headgate.torture.records import SourceRecords, in_its_format
from producers.encoding import encoded
from producers.inputs import Outgoing
from producers.readings import readings
from producers.record_files import record_file

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
LOCAL = {"type": "long", "logicalType": "local-timestamp-millis"}


def sent(source: Source, *records: dict[str, Any]) -> list[list[Any]]:
    """The columns of JSON records after they were written and read."""
    values = encoded((Outgoing(json.dumps(each).encode()) for each in records), source, "the test")
    found = decoded(source, [each.value for each in values])
    assert not any(found.broken.to_pylist())
    return [column.to_pylist() for column in found.columns]


@pytest.mark.parametrize(
    ("type_", "column", "written", "expected"),
    [
        (MILLIS, {"type": "timestamp"}, "2026-01-02 12:00:00", NOON),
        (MILLIS, {"type": "timestamp", "zone": "Europe/Paris"}, "2026-01-02 13:00:00", NOON),
        (LOCAL, {"type": "timestamp", "zone": "Europe/Paris"}, "2026-01-02 12:00:00", NOON),
        ("string", {"type": "timestamp"}, "2026-01-02 12:00:00", "2026-01-02 12:00:00"),
        ("long", {"type": "timestamp", "format": "epoch_millis"}, 1767355200000, "1767355200000"),
        ({"type": "int", "logicalType": "date"}, {"type": "date"}, "2026-01-02", date(2026, 1, 2)),
    ],
    ids=str,
)
def test_times_are_read_as_the_column_writes_them(type_, column, written, expected):
    source = avro_source(avro_schema(("v", type_)), [{"name": "v", **column}])
    assert sent(source, {"v": written}) == [[expected]]


SECONDS = {"type": "timestamp", "format": "epoch_seconds"}


@pytest.mark.parametrize(
    ("type_", "number", "expected"),
    [
        ("long", "1767355200", "1767355200"),
        ("long", '"1767355200"', "1767355200"),
        ("long", "1767355200.0", "1767355200"),
        ("long", "1767355200.5", None),
        ("long", "1767355200.12345678901", None),
        ("long", '"1767355200.5"', None),
        ("long", "true", None),
        ("int", "3000000000", None),
        ("string", "1767355200.5", "1767355200.5"),
    ],
)
def test_an_epoch_that_its_field_has_no_place_for_ends_the_run(type_, number, expected):
    source = avro_source(avro_schema(("v", type_)), [{"name": "v", **SECONDS}])
    records = encoded(iter([Outgoing(f'{{"v": {number}}}'.encode())]), source, "f.jsonl")
    if expected is None:
        with pytest.raises(HeadgateError, match=r"record 1 of f.jsonl cannot be written .*`v`"):
            next(records)
    else:
        assert decoded(source, [next(records).value]).columns[0].to_pylist() == [expected]


def test_an_epoch_of_a_message_with_a_fraction_ends_the_run():
    source = protobuf_source(compiled("int64 v = 1;"), "shop.Order", [{"name": "v", **SECONDS}])
    assert sent(source, {"v": 1767355200}) == [["1767355200"]]
    with pytest.raises(HeadgateError, match=r"`v`: 1767355200.5 is not a whole number"):
        sent(source, {"v": 1767355200.5})


LARGE = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}


def test_a_number_of_json_is_sent_with_all_its_digits():
    source = avro_source(avro_schema(("v", LARGE)), [{"name": "v", "type": "decimal(38,2)"}])
    lines = [b'{"v": 12345678901234567.89}', b'{"v": "12345678901234567890123456789012345.67"}']
    values = [each.value for each in encoded((Outgoing(line) for line in lines), source, "x")]
    assert decoded(source, values).columns[0].to_pylist() == [
        Decimal("12345678901234567.89"),
        Decimal("12345678901234567890123456789012345.67"),
    ]
    for line in (b'{"v": 1e99999999999999999999}', b'{"v": 1.005}'):
        with pytest.raises(HeadgateError, match="record 1 of x"):
            next(encoded(iter([Outgoing(line)]), source, "x"))


@pytest.mark.parametrize("type_", ["decimal(38,2)", "double"])
def test_a_cell_of_csv_is_sent_with_all_its_digits(tmp_path, type_):
    source = avro_source(avro_schema(("v", LARGE)), [{"name": "v", "type": type_}])
    file = tmp_path / "a.csv"
    file.write_text("v\n12345678901234567.89\n")
    records = record_file(file, source, None, max_line=1000, key=None).records(0)
    (value,) = (each.value for each in encoded(records, source, "a.csv"))
    as_it_was = avro_source(avro_schema(("v", LARGE)), [{"name": "v", "type": "decimal(38,2)"}])
    assert decoded(as_it_was, [value]).columns[0].to_pylist() == [Decimal("12345678901234567.89")]


def test_the_key_stays_with_its_record():
    source = avro_source(avro_schema(("v", "int")), [{"name": "v", "type": "int"}])
    (one,) = encoded(iter([Outgoing(b'{"v": 1}', b"key")]), source, "x")
    assert one == Outgoing(b"\x02", b"key")


@pytest.mark.parametrize(
    "line", [b"{", b"[1]", b'{"v": "x"}', b"[" * 100_000], ids=["cut off", "array", "other type", "deep"]
)
def test_the_first_record_that_does_not_fit_ends_it_with_its_number(line):
    source = avro_source(avro_schema(("v", "int")), [{"name": "v", "type": "int"}])
    records = encoded(iter([Outgoing(b'{"v": 1}'), Outgoing(line)]), source, "f.jsonl")
    assert next(records).value == b"\x02"
    with pytest.raises(HeadgateError, match=r"record 2 of f.jsonl cannot be written as Avro"):
        next(records)


AVRO = avro_source(
    avro_schema(
        ("at", MILLIS),
        ("n", "long"),
        ("m", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
        ("kind", {"type": "enum", "name": "K", "symbols": ["A", "B"]}),
        ("raw", ["null", "bytes"]),
    ),
    [
        {"name": "at", "type": "timestamp"},
        {"name": "n", "type": "int"},
        {"name": "m", "type": "decimal(9,2)"},
        {"name": "kind", "type": "string"},
        {"name": "raw", "type": "binary"},
    ],
    event_time={"column": "at", "watermark": "1 minute"},
)
PROTO = protobuf_source(
    compiled("int64 n = 1; string s = 2; repeated int32 a = 3; Kind kind = 4; enum Kind { X = 0; Y = 1; }"),
    "shop.Order",
    [
        {"name": "n", "type": "long"},
        {"name": "s", "type": "string"},
        {"name": "a", "type": "array<int>"},
        {"name": "kind", "type": "string"},
    ],
)


@pytest.mark.parametrize("source", [AVRO, PROTO], ids=["avro", "protobuf"])
def test_records_can_be_made_up_for_a_schema(source):
    made = readings(source, key=None, now=lambda: NOON, chance=random.Random(1))
    values = [each.value for each in itertools.islice(encoded(made, source, "made up"), 50)]
    found = decoded(source, values)
    assert found.broken.to_pylist() == [False] * 50
    assert all(None not in column.to_pylist() for column in found.columns[:4])


def test_the_torture_makes_good_and_bad_records_of_a_schema():
    make = in_its_format(AVRO, SourceRecords(AVRO, "seed", 500, NOON).make)
    values = [make(number) for number in range(500)]
    broken = decoded(AVRO, values).broken.to_pylist()
    assert 0 < sum(broken) < 300
    assert values == [make(number) for number in range(500)]
