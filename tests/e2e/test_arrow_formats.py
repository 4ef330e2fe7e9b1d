"""Text, Avro and Protobuf through both lanes: every row, type, NULL, time, reason and count is the same."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hostile_records import COLUMNS, TIMES, VALUES
from proto_files import compiled
from pyspark.sql import SparkSession
from record_schemas import Versions, avro_bytes, avro_schema
from spark_batch import kafka_frame, spark_session
from two_lanes import Outcome, frozen_of, lane_context, run_batch, run_both

from headgate.arrow.lines import LineReader
from headgate.arrow.reading import reader_of
from headgate.contract.frozen import FrozenContract
from headgate.contract.model import Source
from headgate.contract.text import group_numbers
from headgate.formats.desk import SchemaDesk
from headgate.formats.encode import encoder
from headgate.formats.learned import Learned
from spark.decode import decode, raw_columns
from spark.passed import good_in_arrow
from spark.screen import screen

pytestmark = pytest.mark.e2e
__all__ = ["spark_session"]

Columns = Sequence[Mapping[str, Any]]
ARRIVAL = {"arrival": True}
BY_AT = {"column": "at", "watermark": "10 minutes", "max_future": "10 minutes"}
MILLIS = 1_759_320_000_000
# What stands in the quotes of JSON's values, and the values that have none.
TEXTS = [value[1:-1] if value.startswith('"') and value.endswith('"') else value for value in VALUES + TIMES]


def contract(columns: Columns, stateful: bool = False, **source: Any) -> FrozenContract:
    kinds = {column["name"]: column["type"] for column in columns}
    output = {"sql": f"SELECT {', '.join(kinds)}, _offset FROM a", "to": [{"delta": "all_of"}]}
    types = {"all": {**kinds, "_offset": "long"}}
    outputs = {"all": {**output, **({"lane": "arrow"} if stateful else {})}}
    return frozen_of({"topic": "t", "columns": list(columns), **source}, outputs, types, stateful=stateful)


def same_rows(jvm: Outcome, arrow: Outcome, values: Sequence[bytes | None]) -> None:
    assert jvm.types == arrow.types
    one, two = (
        {row.get("_offset", row.get("offset")): row for rows in each.rows.values() for row in rows}
        for each in (jvm, arrow)
    )
    wrong = [
        (values[at], one.get(at), two.get(at))
        for at in range(len(values))
        if repr(one.get(at)) != repr(two.get(at))
    ]
    assert not wrong, f"{len(wrong)} differences\n" + "\n".join(str(each)[:900] for each in wrong[:20])
    assert jvm.batch.read == len(values)
    assert (jvm.batch.good, jvm.batch.quarantined) == (arrow.batch.good, arrow.batch.quarantined)
    assert jvm.batch.rules == dict(sorted(arrow.batch.rules.items()))


def same_passed(spark: SparkSession, frozen: FrozenContract, values: Sequence[bytes | None]) -> int:
    """The good records for a stateful output; how many there are."""

    def rows(frame: Any) -> list[str]:
        return sorted(repr(row) for row in frame.toArrow().to_pylist())

    def raw() -> Any:
        return raw_columns(kafka_frame(spark, values).coalesce(2))

    jvm, arrow = screen(raw(), frozen.contract, "a").good(), good_in_arrow(raw(), frozen, "all", "a")
    names = [column for column in jvm.columns if column in arrow.columns]
    assert arrow.columns == names
    assert jvm.select(*names).schema == arrow.schema
    found = rows(jvm.select(*names))
    assert found == rows(arrow)
    return len(found)


def test_a_text_is_the_value_that_spark_makes_of_it_or_left_to_it(spark_session):
    """Each column has the whole line."""
    columns = [{**column, "required": False} for column in COLUMNS]
    own = contract(columns, format="text", event_time=ARRIVAL).contract.sources["a"]
    values = [*(text.encode() for text in TEXTS), b"", b"a\nb"]
    frame = decode(raw_columns(kafka_frame(spark_session, values)), own).frame
    told = frame.orderBy("_offset").toArrow()
    found = reader_of(own).read(pa.array(values, pa.binary()), lambda: np.empty(0, np.int64))
    assert len(found.rows) == len(values)
    sure = 0
    for name in [column["name"] for column in columns]:
        expected, here = told.column(name), found.columns[name]
        for row, text in enumerate(values):
            if here.doubtful is not None and here.doubtful[row]:
                continue
            sure += expected[row].is_valid
            one, two = expected[row].as_py(), here.value[row].as_py()
            assert repr(one) == repr(two), (name, text)
            assert here.unreadable is None or bool(here.unreadable[row]) == (two is None), (name, text)
    assert sure > 200


PATTERNS = [
    r'^(?<a>\S+) \S+ (?<b>\S+) \[(?<c>[^\]]+)\] "(?<d>[A-Z]+) (?<e>\S+)(?: HTTP/[\d.]+)?" (?<f>\d{3}|-)',
    r"(?<a>\d{4}-\d\d-\d\d)(?:.*?\b(?<b>INFO|WARN(?:ING)?|ERROR)\b)?",
    r"(?<a>a+?)(?<b>a*)(?<c>b|ab|abc)?(?<d>.??)(?<e>c{1,2}?)",
    r"(?<a>\w+)=(?<b>[^ ;]*)(?:;|$)",
    r"(?:x|(?<a>y)|z{2,3}?)(?<b>.*)",
    r"\A\s*(?<a>[\w.-]+)\W(?<b>\D*)\Z",
    r"(?<a>a|ab)(?<b>c|bcd)(?<c>d*)",
    r"(?<a>|a)(?<b>a|)(?<c>[^a]?)",
    r"(?<a>[\[\](){}*+?.^$|&-]+)(?<b>[^\[\]&])",
    r"(?<a>[\x41-\x5a\u00e4-\u00fc]+)(?<b>\u20ac|\xdf)?",
    r"(?<a>\b.)(?<b>\B.)?(?<c>.\b)?",
    r"(?<a>[^\x00-\x7f]+)(?<b>.)?$",
    r"(?<a>(?:ab?)+?)(?<b>(?:[ab]{2})*)",
    r"^$|(?<a>^.)|(?<b>.$)",
]


def lines_for_patterns() -> list[str]:
    chance = random.Random(11)
    signs = 'aaabbbccdxyyz019 -=;.[](){}*+?^$|&"/\\\tAZ_äüß€😀\u2028\x85\r\n\x0b\x0c\u0130K'
    made = ["".join(chance.choices(signs, k=chance.randrange(14))) for _ in range(3000)]
    log = '10.0.0.1 - frank [10/Oct/2025:13:55:36 -0700] "GET /a?b=1 HTTP/1.0" 200 2326'
    return [
        *made,
        log,
        log.replace(" HTTP/1.0", ""),
        log[1:40],
        "2025-10-01 x WARNING y",
        "2025-10-01 WARNINGS",
    ]


def test_a_pattern_takes_out_of_a_line_what_java_takes(spark_session):
    lines = lines_for_patterns()
    frame = raw_columns(kafka_frame(spark_session, [line.encode() for line in lines]))
    for pattern in PATTERNS:
        names = list(group_numbers(pattern))
        columns = [{"name": name, "type": "string"} for name in names]
        own = contract(columns, format="text", pattern=pattern, event_time=ARRIVAL).contract.sources["a"]
        told = decode(frame, own).frame.select("_offset", *names).toArrow().sort_by("_offset").to_pylist()
        found = LineReader(own).read(pa.array([line.encode() for line in lines], pa.binary()))
        wrong = [
            (
                lines[row],
                [told[row][name] for name in names],
                [found.fields[name][at].as_py() for name in names],
            )
            for at, row in enumerate(found.rows.tolist())
            if any(told[row][name] != found.fields[name][at].as_py() for name in names)
        ]
        assert not wrong, f"{pattern}: {len(wrong)} differences, such as {wrong[:5]}"
        assert len(found.rows) > 500
        assert any(told[row][name] is not None for row in found.rows.tolist() for name in names)


LOG = (
    r"(?<at>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,6})?)(?:.*?\b(?<level>[A-Z]{4,5})\b)?(?: n=(?<n>\S*))?"
)
LINES = [
    "2025-10-01 12:00:00 INFO n=7",
    "2025-10-01T12:00:00.5 x WARN n=",
    "at 2025-10-01 12:00:00 INFO n=x",
    "2025-10-01 12:00:00",
    "2025-13-01 12:00:00 ERROR n=1",
    "2025-02-29 12:00:00 ERROR n= 1",
    "2025-10-01 12:00:00 ä ERROR n=1",
    "2025-10-01 12:00:00 äERROR n=1",
    "2025-10-01 12:00:00 ERRORß n=99999999999",
    "2025-10-01 12:00:00\nERROR n=1",
    "2025-10-01 12:00:00\u2028ERROR n=1",
    "2025-10-01 12:00:00\x0bERROR n=1",
    "2999-10-01 12:00:00 INFO n=1",
    "nothing",
    "",
]


def test_lines_with_a_pattern_come_out_the_same_for_records_and_for_windows(spark_session, tmp_path):
    columns = [
        {"name": "at", "type": "timestamp", "required": True},
        {"name": "level", "type": "string"},
        {"name": "n", "type": "int"},
        {"name": "line", "type": "string"},
    ]
    rules = [{"name": "known", "expect": "level IS NULL OR level IN ('INFO', 'WARN')"}]
    source = {"format": "text", "pattern": LOG, "event_time": BY_AT, "rules": rules}
    values = [*(line.encode() for line in LINES * 3), b"2025-10-01 12:00:00 \xff INFO", None]
    jvm, arrow = run_both(spark_session, contract(columns, **source), tmp_path, values)
    same_rows(jvm, arrow, values)
    assert jvm.batch.good > 10
    assert same_passed(spark_session, contract(columns, stateful=True, **source), values) == jvm.batch.good


AVRO_FIELDS = [
    ("at", {"type": "long", "logicalType": "timestamp-millis"}),
    ("wall", ["null", {"type": "long", "logicalType": "local-timestamp-micros"}]),
    ("text_at", ["null", "string"]),
    ("epoch", ["null", "long"]),
    ("n", ["null", "long"]),
    ("text_n", ["null", "string"]),
    ("f", ["float", "null"]),
    ("d", ["null", "double"]),
    ("s", ["null", "string"]),
    ("day", ["null", {"type": "int", "logicalType": "date"}]),
    ("raw", ["null", "bytes"]),
    ("kind", ["null", {"type": "enum", "name": "Kind", "symbols": ["RED", "BLUE"]}]),
    ("b", ["null", "boolean"]),
    ("unknown", ["null", {"type": "array", "items": "long"}]),
]
AVRO_COLUMNS = [
    {"name": "at", "type": "timestamp", "required": True},
    {"name": "wall", "type": "timestamp"},
    {"name": "text_at", "type": "timestamp"},
    {"name": "epoch", "type": "timestamp", "format": "epoch_seconds"},
    {"name": "n", "type": "int", "required": True},
    {"name": "text_n", "type": "double"},
    {"name": "f", "type": "float"},
    {"name": "d", "type": "double"},
    {"name": "s", "type": "string"},
    {"name": "day", "type": "date"},
    {"name": "raw", "type": "binary"},
    {"name": "kind", "type": "string"},
    {"name": "b", "type": "boolean"},
]
NUMBERS = [0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63)]
MOMENTS = [MILLIS, MILLIS + 900_000, 253_402_300_799_999, 253_402_300_800_000, -62_135_596_800_001]
ODD: Mapping[str, Sequence[Any]] = {
    "at": MOMENTS,
    "wall": [1_000 * each for each in MOMENTS],
    "text_at": TEXTS,
    "epoch": [*NUMBERS, *(each // 1_000 for each in MOMENTS)],
    "n": NUMBERS,
    "text_n": TEXTS,
    "f": [0.0, -0.0, 1.5, float("nan"), float("inf")],
    "d": [0.0, -0.0, 1e300, float("nan"), float("-inf")],
    "s": ["", "ä😀", "x" * 300, "\x00"],
    "day": [0, -719_162, -719_163, 2_932_896, 2_932_897],
    "raw": [b"", b"\xff\x00"],
    "kind": ["RED", "BLUE"],
    "b": [True, False],
    "unknown": [[], [1, 2]],
}


def records_of(schema: str) -> list[bytes | None]:
    """Each odd value alone in a record, then records with damage of all kinds."""
    empty = {name: None for name, _ in AVRO_FIELDS} | {"at": MILLIS, "n": 1}
    whole = [avro_bytes(schema, {**empty, name: value}) for name, values in ODD.items() for value in values]
    return [*whole, *damaged(whole, 400)]


def damaged(whole: Sequence[bytes], count: int) -> list[bytes | None]:
    chance = random.Random(7)
    found: list[bytes | None] = [b"", None, b"\xff" * 30]
    for _ in range(count):
        value = bytearray(chance.choice(whole))
        place = chance.randrange(len(value))
        match chance.randrange(4):
            case 0:
                value[place] ^= 1 << chance.randrange(8)
            case 1:
                del value[place:]
            case 2:
                value.insert(place, chance.randrange(256))
            case _:
                value += bytes([chance.randrange(256)])
        found.append(bytes(value))
    return found


def test_records_of_avro_come_out_the_same_for_records_and_for_windows(spark_session, tmp_path):
    schema = avro_schema(*AVRO_FIELDS)
    rules = [
        {"name": "small", "expect": "n < 100"},
        {"name": "named", "expect": "s <> ''", "otherwise": "warn"},
    ]
    source = {
        "format": "avro",
        "schema": {"file": "a.avsc", "text": schema},
        "event_time": BY_AT,
        "rules": rules,
    }
    values = records_of(schema)
    jvm, arrow = run_both(spark_session, contract(AVRO_COLUMNS, **source), tmp_path, values)
    same_rows(jvm, arrow, values)
    assert min(jvm.batch.good, jvm.batch.quarantined) > 50
    assert same_passed(spark_session, contract(AVRO_COLUMNS, True, **source), values) == jvm.batch.good


PROTO = """
int64 id = 1; optional double price = 2; google.protobuf.Timestamp at = 3; string shop = 4;
google.protobuf.StringValue note = 5; Kind kind = 6; enum Kind { NONE = 0; CARD = 1; } sint32 delta = 7;
repeated string tags = 8; bytes raw = 9; bool paid = 10; fixed64 code = 11; optional string text_at = 12;
"""
PROTO_COLUMNS = [
    {"name": "id", "type": "int"},
    {"name": "price", "type": "double"},
    {"name": "at", "type": "timestamp", "required": True},
    {"name": "shop", "type": "string"},
    {"name": "note", "type": "string"},
    {"name": "kind", "type": "string"},
    {"name": "delta", "type": "long"},
    {"name": "raw", "type": "binary"},
    {"name": "paid", "type": "boolean"},
    {"name": "code", "type": "long"},
    {"name": "text_at", "type": "date"},
]
PROTO_ODD: Mapping[str, Sequence[Any]] = {
    "id": NUMBERS,
    "price": ODD["d"],
    "shop": ODD["s"],
    "note": ["", "ä"],
    "kind": ["NONE", "CARD"],
    "delta": [0, -1, 2**31 - 1],
    "raw": ["", "/wA="],
    "paid": [True, False],
    "code": [0, 2**63 - 1],
    "text_at": TEXTS,
}


def test_messages_of_protobuf_come_out_the_same_for_records_and_for_windows(spark_session, tmp_path):
    text = compiled(PROTO, imports=("google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"))
    source = {
        "format": "protobuf",
        "schema": {"file": "order.proto", "message": "shop.Order", "text": text},
        "event_time": BY_AT,
        "rules": [{"name": "known", "expect": "delta >= 0"}],
    }
    columns = [{"name": name, "type": kind} for name, kind in
               {"id": "long", "price": "double", "at": "timestamp", "shop": "string", "note": "string",
                "kind": "string", "delta": "long", "raw": "binary", "paid": "boolean", "code": "long",
                "text_at": "string"}.items()]  # fmt: skip
    encode = encoder(Source.model_validate({"topic": "t", "columns": columns, **source, "rules": []}), {})
    whole = [
        encode({"at": "2025-10-01 12:00:00", name: value})
        for name, values in PROTO_ODD.items()
        for value in values
    ]
    # Numbers of an enum and fields that the schema does not know, a field twice, tags.
    ends = [
        b"\x30\x09",
        b"\x78\x01",
        b"\x08\x01\x08\x02",
        b"\x42\x01x",
        b"\x1a\x02\x08\x01",
        b"\x0b\x0c",
        b"\x00",
    ]
    values = [*whole, *(whole[0] + end for end in ends), *damaged(whole, 400)]
    jvm, arrow = run_both(spark_session, contract(PROTO_COLUMNS, **source), tmp_path, values)
    same_rows(jvm, arrow, values)
    assert min(jvm.batch.good, jvm.batch.quarantined) > 50
    assert same_passed(spark_session, contract(PROTO_COLUMNS, True, **source), values) == jvm.batch.good


def test_records_of_several_writers_are_read_in_arrow_each_by_its_own(spark_session, tmp_path):
    reader = avro_schema(("id", "long"), {"name": "name", "type": "string", "aliases": ["label"]})
    writer = avro_schema(("label", "string"), ("id", "int"))
    schema = {"registry": True, "subject": "s", "id": 1, "version": 1, "text": reader}
    columns = [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]
    frozen = contract(columns, format="avro", schema=schema, event_time=ARRIVAL)
    head = {number: b"\x00" + number.to_bytes(4, "big") for number in (1, 2, 3)}
    values = [
        head[1] + avro_bytes(reader, {"id": 1, "name": "new"}),
        head[2] + avro_bytes(writer, {"id": 2, "label": "old"}),
        head[3] + avro_bytes(writer, {"id": 3, "label": "nobody knows"}),
        avro_bytes(reader, {"id": 4, "name": "bare"}),
    ]
    sources, learned = {"a": frozen.contract.sources["a"]}, Learned(tmp_path / "learned.jsonl")
    desk = SchemaDesk(
        sources, Versions({2: writer}), learned, stopping=lambda _: False, waiting=lambda _: None
    )
    try:
        found = [
            run_batch(spark_session, lane_context(frozen, tmp_path / lane, desk.askers["a"]), lane, values)
            for lane in ("jvm", "arrow")
        ]
    finally:
        desk.close()
    same_rows(*found, values)
    assert [(row["id"], row["name"]) for row in found[1].rows["all"]] == [(1, "new"), (2, "old")]
