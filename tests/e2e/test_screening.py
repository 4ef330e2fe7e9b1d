"""A hostile corpus through the driver's own decoding and screening, in a real Spark session."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from contract_examples import contract_of
from spark_batch import ARRIVED, Judged, judge, spark_session

__all__ = ["spark_session"]

pytestmark = pytest.mark.e2e

PARSE = ("_parse",)
AT = '"at": "2025-10-01 12:00:00"'
NOON = datetime(2025, 10, 1, 12, tzinfo=UTC)
Judge = Callable[..., list[Judged]]

WIDE = {
    "topic": "t",
    "columns": [
        {"name": "at", "type": "timestamp", "zone": "UTC"},
        {"name": "n", "type": "int"},
        {"name": "l", "type": "long"},
        {"name": "f", "type": "float"},
        {"name": "d", "type": "double"},
        {"name": "b", "type": "boolean"},
        {"name": "s", "type": "string"},
        {"name": "m", "type": "decimal(10,2)"},
        {"name": "a", "type": "array<int>"},
        {"name": "o", "type": "struct<x:int,y:string>"},
        {"name": "day", "type": "date"},
        {"name": "raw", "type": "binary"},
    ],
    "event_time": {"column": "at", "watermark": "10 minutes", "max_future": "10 minutes"},
}


@pytest.fixture(scope="module")
def judged(spark_session) -> Judge:
    def run(
        source: dict[str, Any], values: Sequence[bytes | str | None], *, source_name: str = "a", **more: Any
    ) -> list[Judged]:
        outputs = more.pop("outputs", None)
        encoded = [value.encode() if isinstance(value, str) else value for value in values]
        contract = contract_of({source_name: source}, outputs)
        return judge(spark_session, contract, source_name, encoded, **more)

    return run


def compare(found: list[Judged], expected: list[tuple[Any, tuple[str, ...] | dict[str, Any]]]) -> None:
    """Every record with its reasons, or with the columns it is expected to have; all differences at once."""
    wrong = []
    for one, (_, wanted) in zip(found, expected, strict=True):
        if isinstance(wanted, tuple):
            if one.reasons != wanted:
                wrong.append((one.value, "reasons", one.reasons, "instead of", wanted, dict(one.row)))
        else:
            got = {name: one.row[name] for name in wanted}
            if not one.good or got != wanted:
                wrong.append((one.value, "good", one.good, one.reasons, got, "instead of", wanted))
    assert not wrong, "\n".join(map(str, wrong))


def obj(fields: str) -> str:
    return "{" + AT + ", " + fields + "}"


# What is no JSON object, or not the one that the contract describes.
ONE, TWO = obj('"n": 1'), obj('"n": 2')
NOT_JSON: list[Any] = [
    None,
    b"",
    b" ",
    b"{",
    b"}",
    b"not json",
    b"null",
    b"true",
    b"17",
    b'"text"',
    b"[]",
    b"[1]",
    b"\x00",
    b"\xff\xfe{\x00}\x00",
    f"[{ONE}]",
    f"[{ONE}, {TWO}]",
    # more than one object, or something behind it
    f"{ONE}{TWO}",
    f"{ONE} {TWO}",
    f"{ONE}\n{TWO}",
    f"{ONE},{TWO}",
    f"{ONE} null",
    f"{ONE}x",
    f"{ONE}}}",
    f"{ONE}]",
    f"{ONE}]{TWO}",
    f"{ONE}]}}{TWO}",
    f'{ONE},{{"_":"behind"}}',
    f"{ONE}\x00",
    # nearly JSON
    "{'at': '2025-10-01 12:00:00'}",
    '{at: "2025-10-01 12:00:00"}',
    "{" + AT + ",}",
    "{" + AT + " /* why */}",
    "{" + AT + "} // why",
    "# why\n{" + AT + "}",
    obj('"n": 007'),
    obj('"n": 0x1f'),
    obj('"n": +1'),
    obj('"n": '),
    obj('"d": NaN'),
    obj('"d": Infinity'),
    obj('"d": -Infinity'),
    obj('"f": NaN'),
    obj('"s": "a\nb"'),
    obj('"s": "a\x00b"'),
    obj('"s": "\\x"'),
    obj('"s": "open'),
    # types
    obj('"n": "5"'),
    obj('"n": 1.5'),
    obj('"n": true'),
    obj('"n": [1]'),
    obj('"n": {}'),
    obj('"n": 2147483648'),
    obj('"n": -2147483649'),
    obj('"l": 9223372036854775808'),
    obj(f'"l": 1{"0" * 400}'),
    obj('"d": "1.5"'),
    obj('"d": "NaN"'),
    obj('"d": true'),
    obj('"b": "true"'),
    obj('"b": 1'),
    obj('"m": 123456789.5'),
    obj('"a": [1, "x"]'),
    obj('"a": {"0": 1}'),
    obj('"a": 1'),
    obj('"o": {"x": "no"}'),
    obj('"o": [1, "y"]'),
    obj('"o": "x"'),
    # bytes
    b"\xef\xbb\xbf{" + AT.encode() + b"}",
    obj('"s": "?"').encode().replace(b"?", b"\xff"),
    obj('"s": "?"').encode().replace(b"?", b"\xc0\xaf"),
    obj('"s": "?"').encode().replace(b"?", b"\xed\xa0\x80"),
    obj('"unknown": "?"').encode().replace(b"?", b"\xfe"),
    obj('"s": "x"').encode("utf-16"),
    # depth
    obj('"unknown": ' + "[" * 3000 + "]" * 3000),
    obj('"unknown": ' + '{"a":' * 3000 + "1" + "}" * 3000),
    "[" * 100_000,
]  # fmt: skip


def test_what_is_no_json_object_of_the_contract_is_quarantined_as_parse(judged):
    compare(judged(WIDE, NOT_JSON), [(value, PARSE) for value in NOT_JSON])


GOOD: list[tuple[Any, dict[str, Any]]] = [
    ("{" + AT + "}", {"at": NOON, "n": None, "d": None, "s": None, "o": None}),
    (" \t\r\n{" + AT + "}\n\t ", {"at": NOON}),
    (obj('"n": null, "s": null, "a": null'), {"n": None, "s": None, "a": None}),
    (obj('"n": 2147483647, "l": -9223372036854775808'), {"n": 2**31 - 1, "l": -(2**63)}),
    (obj('"d": 1'), {"d": 1.0}),
    (obj('"d": -1.5e-300'), {"d": -1.5e-300}),
    (obj('"d": 1.7976931348623157e308'), {"d": 1.7976931348623157e308}),
    (obj('"f": 3.4028235e38'), {"f": 3.4028234663852886e38}),
    (obj('"b": true'), {"b": True}),
    (obj('"m": 99999999.99'), {"m": Decimal("99999999.99")}),
    (obj('"m": 1'), {"m": Decimal("1.00")}),
    (obj('"m": "1.5"'), {"m": Decimal("1.50")}),
    (obj('"a": []'), {"a": []}),
    (obj('"a": [1, null, -3]'), {"a": [1, None, -3]}),
    (obj('"o": {"x": 1, "y": "z", "more": {}}'), {"o": (1, "z")}),
    (obj('"s": ""'), {"s": ""}),
    (obj('"s": "}{"'), {"s": "}{"}),
    (obj('"s": "a } b {\\"n\\": 1}"'), {"s": 'a } b {"n": 1}'}),
    (obj('"s": "\\u00e4\\ud83d\\ude00 ä😀"'), {"s": "ä😀 ä😀"}),
    (obj('"s": "\\u0000"'), {"s": "\x00"}),
    (obj(f'"s": "{"x" * 300_000}"'), {"s": "x" * 300_000}),
    (obj('"unknown": {"deep": [{}, [[]]]}, "n": 1'), {"n": 1}),
    (obj('"unknown": ' + "[" * 900 + "]" * 900), {"at": NOON}),
    (obj('"N": 1, " n": 2'), {"n": None}),
    # a string column takes any value, as Spark writes it
    (obj('"s": 12345678901234567890123'), {"s": "12345678901234567890123"}),
    (obj('"s": 1.50'), {"s": "1.5"}),
    (obj('"s": false'), {"s": "false"}),
    (obj('"s": {"x": [1, 2]}'), {"s": '{"x":[1,2]}'}),
    # JSON leaves open which of two equal keys counts: the last one does
    (obj('"n": 1, "n": 2'), {"n": 2}),
    (obj('"day": "2025-02-28"'), {"day": date(2025, 2, 28)}),
    (obj('"day": "0001-01-01"'), {"day": date(1, 1, 1)}),
    (obj('"day": "9999-12-31"'), {"day": date(9999, 12, 31)}),
    (obj('"raw": "aGVsbG8="'), {"raw": bytearray(b"hello")}),
]


def test_what_is_good_keeps_its_values(judged):
    compare(judged(WIDE, [value for value, _ in GOOD]), GOOD)


def test_values_that_cannot_be_converted_name_their_column(judged):
    expected: list[tuple[Any, tuple[str, ...]]] = [
        (obj('"d": 1e400'), ("_unreadable_d",)),
        (obj('"d": -1e400'), ("_unreadable_d",)),
        (obj('"f": 1e39'), ("_unreadable_f",)),
        (obj('"day": "2025-02-30"'), ("_unreadable_day",)),
        (obj('"day": "0000-01-01"'), ("_unreadable_day",)),
        (obj('"day": "yesterday"'), ("_unreadable_day",)),
        (obj('"day": 20250228'), ("_unreadable_day",)),
        (obj('"raw": "no base64!"'), ("_unreadable_raw",)),
        (obj('"raw": "!", "day": "x", "d": 1e999'), ("_unreadable_d", "_unreadable_day", "_unreadable_raw")),
    ]
    compare(judged(WIDE, [value for value, _ in expected]), expected)


def test_required_columns_are_missed_when_absent_and_when_null(judged):
    source = {
        "topic": "t",
        "columns": [
            {"name": "s", "type": "string", "required": True},
            {"name": "d", "type": "double", "required": True},
            {"name": "t", "type": "timestamp", "required": True},
            {"name": "x", "type": "int"},
        ],
    }
    full = {"s": "a", "d": 1, "t": "2025-10-01 12:00:00"}
    expected: list[tuple[Any, Any]] = [
        (json.dumps(full), {"s": "a", "d": 1.0, "t": NOON, "x": None}),
        (json.dumps({**full, "s": ""}), {"s": ""}),
        (json.dumps({**full, "s": None}), ("_missing_s",)),
        (json.dumps({**full, "d": None, "t": None}), ("_missing_d", "_missing_t")),
        (json.dumps({**full, "t": "soon"}), ("_unreadable_t",)),
        ('{"d": 1e400}', ("_missing_s", "_unreadable_d", "_missing_t")),
        ("{}", ("_missing_s", "_missing_d", "_missing_t")),
        ("{", PARSE),
    ]
    compare(judged(source, [value for value, _ in expected]), expected)


def times(zone: str | None = None, **column: Any) -> dict[str, Any]:
    spec = {"name": "at", "type": "timestamp", **({"zone": zone} if zone else {}), **column}
    return {"topic": "t", "columns": [spec], "event_time": {"column": "at", "max_future": "10 minutes"}}


def at(text: Any) -> str:
    return json.dumps({"at": text})


NO_TIME = ("_no_event_time",)


def utc(*parts: int) -> dict[str, Any]:
    return {"at": datetime(*parts, tzinfo=UTC)}  # type: ignore[misc, arg-type]


def test_event_times_are_read_as_the_contract_says_and_never_guessed(judged):
    expected: list[tuple[Any, Any]] = [
        (at("2025-10-01 12:00:00"), utc(2025, 10, 1, 12)),
        (at("2025-10-01T12:00:00"), utc(2025, 10, 1, 12)),
        (at("2025-10-01T12:00:00Z"), utc(2025, 10, 1, 12)),
        (at("2025-10-01T12:00:00+02:00"), utc(2025, 10, 1, 10)),
        (at("2025-10-01 12:00:00.123456"), utc(2025, 10, 1, 12, 0, 0, 123456)),
        (at("2025-10-01T12:00:00.123456789-01"), utc(2025, 10, 1, 13, 0, 0, 123456)),
        (at("2025-10-01 12:00:00 Europe/Paris"), utc(2025, 10, 1, 10)),
        (at("2025-10-01"), utc(2025, 10, 1)),
        (at("1960-02-29 23:59:59"), utc(1960, 2, 29, 23, 59, 59)),
        (at("0002-01-01 00:00:00"), utc(2, 1, 1)),
        (at("0000-12-31 00:00:00"), NO_TIME),
        # 10 minutes ahead of its arrival is the last that is taken
        (at("2026-01-01 00:10:00"), utc(2026, 1, 1, 0, 10)),
        (at("2026-01-01 00:10:00.000001"), ("_future",)),
        (at("9999-12-31 23:59:59"), ("_future",)),
        (at("+10000-01-01 00:00:00"), NO_TIME),
        (at("12:00:00"), NO_TIME),
        (at("T12:00"), NO_TIME),
        (at("now"), NO_TIME),
        (at("today"), NO_TIME),
        (at("epoch"), NO_TIME),
        (at(""), NO_TIME),
        (at("2025"), NO_TIME),
        (at("2025-10"), NO_TIME),
        (at("2025-1-05 12:00:00"), NO_TIME),
        (at("2025-10-5"), NO_TIME),
        (at("2025-10-5 12:00:00"), NO_TIME),
        (at("2025-10-5T12:00:00"), NO_TIME),
        (at(" 2025-10-01 12:00:00"), NO_TIME),
        (at("+2025-10-01 12:00:00"), NO_TIME),
        (at("-2025-10-01 12:00:00"), NO_TIME),
        (at("1:23-08:00"), NO_TIME),
        (at("20251001-12-12"), NO_TIME),
        (at("2025-13-01 00:00:00"), NO_TIME),
        (at("2025-02-30 00:00:00"), NO_TIME),
        (at("2025-10-01 24:00:00"), NO_TIME),
        (at("2025-10-01 12:00:00 nonsense"), NO_TIME),
        (at("2025-10-01 12:00:00+99:00"), NO_TIME),
        (at("01/10/2025 12:00"), NO_TIME),
        (at(1759320000), NO_TIME),
        (at(None), NO_TIME),
        (at([1]), NO_TIME),
        ("{}", NO_TIME),
    ]
    compare(judged(times("UTC"), [value for value, _ in expected]), expected)


def test_a_zone_applies_to_times_that_carry_none_on_both_sides_of_a_clock_change(judged):
    expected: list[tuple[Any, Any]] = [
        (at("2025-01-15 12:00:00"), utc(2025, 1, 15, 11)),
        (at("2025-07-15 12:00:00"), utc(2025, 7, 15, 10)),
        (at("2025-07-15"), utc(2025, 7, 14, 22)),
        (at("2025-07-15T12:00"), utc(2025, 7, 15, 10)),
        (at("2025-07-15 12:00:00.5 "), utc(2025, 7, 15, 10, 0, 0, 500000)),
        # what carries a zone keeps it
        (at("2025-07-15T12:00:00Z"), utc(2025, 7, 15, 12)),
        (at("2025-07-15T12:00:00-05:00"), utc(2025, 7, 15, 17)),
        (at("2025-07-15 12:00:00 UTC"), utc(2025, 7, 15, 12)),
        (at("2025-07-15 12:00:00 America/New_York"), utc(2025, 7, 15, 16)),
        # the hour that is skipped, and the one that is there twice (the earlier one)
        (at("2025-03-30 01:59:59"), utc(2025, 3, 30, 0, 59, 59)),
        (at("2025-03-30 02:30:00"), utc(2025, 3, 30, 1, 30)),
        (at("2025-03-30 03:00:00"), utc(2025, 3, 30, 1)),
        (at("2025-10-26 01:59:59"), utc(2025, 10, 25, 23, 59, 59)),
        (at("2025-10-26 02:30:00"), utc(2025, 10, 26, 0, 30)),
        (at("2025-10-26 03:00:00"), utc(2025, 10, 26, 2)),
    ]
    compare(judged(times("Europe/Paris"), [value for value, _ in expected]), expected)


def test_numbers_since_the_epoch_are_times_and_too_large_ones_are_none(judged):
    expected: list[tuple[Any, Any]] = [
        (at(1759320000), utc(2025, 10, 1, 12)),
        (at("1759320000"), utc(2025, 10, 1, 12)),
        (at(1759320000.25), utc(2025, 10, 1, 12, 0, 0, 250000)),
        (at(0), utc(1970, 1, 1)),
        (at(-86400), utc(1969, 12, 31)),
        (at(1767225601 + 600), ("_future",)),
        (at(1759320000000), NO_TIME),  # milliseconds where seconds are said: the year 57720
        (at(-1759320000000), NO_TIME),
        (at(99999999999999), NO_TIME),
        (at(10**30), NO_TIME),
        (at("soon"), NO_TIME),
        (at(""), NO_TIME),
        (at(True), NO_TIME),
    ]
    found = judged(times(format="epoch_seconds"), [value for value, _ in expected])
    compare(found, expected)
    expected = [
        (at(1759320000123), utc(2025, 10, 1, 12, 0, 0, 123000)),
        (at("-1"), utc(1969, 12, 31, 23, 59, 59, 999000)),
        (at(10**19), NO_TIME),
    ]
    compare(judged(times(format="epoch_millis"), [value for value, _ in expected]), expected)


def test_a_format_of_the_contracts_own_is_read_in_its_zone(judged):
    expected: list[tuple[Any, Any]] = [
        (at("15/Jul/2025:12:00:00"), utc(2025, 7, 15, 10)),
        (at("15/Jan/2025:12:00:00"), utc(2025, 1, 15, 11)),
        (at("15/jul/2025:12:00:00"), utc(2025, 7, 15, 10)),
        (at("2025-07-15 12:00:00"), NO_TIME),
        (at("31/Feb/2025:12:00:00"), NO_TIME),
    ]
    source = times("Europe/Paris", format="dd/MMM/yyyy:HH:mm:ss")
    compare(judged(source, [value for value, _ in expected]), expected)
    expected = [
        (at("15/Jul/2025:12:00:00 -0500"), utc(2025, 7, 15, 17)),
        (at("15/Jul/2025:12:00:00"), NO_TIME),
    ]
    source = times("Europe/Paris", format="dd/MMM/yyyy:HH:mm:ss Z")
    compare(judged(source, [value for value, _ in expected]), expected)


def test_times_without_a_year_get_the_contracts(judged):
    expected: list[tuple[Any, Any]] = [
        (at("Jul 15 12:00:00"), utc(2024, 7, 15, 12)),
        (at("Jul  5 12:00:00"), utc(2024, 7, 5, 12)),
        (at("Feb 29 12:00:00"), utc(2024, 2, 29, 12)),
        (at("Feb 30 12:00:00"), NO_TIME),
        (at("Foo 12 12:00:00"), NO_TIME),
    ]
    source = times(format="MMM d HH:mm:ss", default_year=2024)
    compare(judged(source, [value for value, _ in expected]), expected)


def test_the_arrival_as_event_time_takes_every_record(judged):
    source = {
        "topic": "t",
        "columns": [{"name": "at", "type": "timestamp"}],
        "event_time": {"arrival": True},
    }
    expected: list[tuple[Any, Any]] = [
        (at("9999-01-01 00:00:00"), {"_arrival": ARRIVED}),
        ("{}", {"_arrival": ARRIVED, "at": None}),
        (at("soon"), ("_unreadable_at",)),
    ]
    compare(judged(source, [value for value, _ in expected]), expected)


def test_a_topic_that_takes_the_producers_time_cannot_move_the_bound_on_the_future(judged):
    later = datetime.now(tz=UTC) + timedelta(days=400)
    (one,) = judged(times("UTC"), [at((later - timedelta(days=1)).isoformat())], arrived=later)
    assert one.reasons == ("_future",)


RULES = {
    "topic": "t",
    "columns": [
        {"name": "n", "type": "int"},
        {"name": "k", "type": "int"},
        {"name": "s", "type": "string"},
    ],
    "rules": [
        {"name": "cast", "expect": "CAST(s AS INT) < 100 OR s IS NULL"},
        {"name": "division", "expect": "n / k < 100 OR k IS NULL"},
        {"name": "overflow", "expect": "n + 1 > n"},
        {"name": "soft", "expect": "n < 1000", "otherwise": "warn"},
        {"name": "soft_cast", "expect": "CAST(s AS INT) > 0", "otherwise": "warn"},
        {"name": "hard", "expect": "n <> 666", "otherwise": "fail"},
    ],
}


def test_rules_by_cast_division_and_overflow_are_broken_under_their_names(judged):
    found = judged(
        RULES,
        [
            '{"n": 1, "k": 1, "s": "7"}',
            '{"n": 1, "k": 1, "s": "seven"}',
            '{"n": 1, "k": 0, "s": "7"}',
            '{"n": 2147483647, "k": null, "s": "7"}',
            '{"n": 2147483647, "k": 0, "s": "x"}',
            '{"n": 2000, "k": 999, "s": "7"}',
            '{"n": 666, "k": 666, "s": "7"}',
            '{"k": 1, "s": "7"}',
            "{",
        ],
    )
    assert [one.reasons for one in found] == [
        (),
        ("cast",),
        ("division",),
        ("overflow",),
        ("cast", "division", "overflow"),
        (),
        (),
        ("division", "overflow"),  # NULL counts as failed
        PARSE,
    ]
    assert [one.warned for one in found] == [
        (),
        ("soft_cast",),
        (),
        ("soft",),
        ("soft", "soft_cast"),
        ("soft",),
        (),
        ("soft",),
        (),
    ]
    assert [one.failing for one in found] == [(), (), (), (), (), (), ("hard",), ("hard",), ()]


def test_an_output_that_cannot_be_computed_for_a_record_quarantines_it_under_the_outputs_name(judged):
    source = {"topic": "t", "columns": RULES["columns"]}
    outputs = {
        "ratio": {"sql": "SELECT n / k AS r FROM a WHERE n > 0", "to": [{"delta": "ratio"}]},
        "number": {"sql": "SELECT CAST(s AS INT) AS i FROM a", "to": [{"delta": "number"}]},
        "calm": {"sql": "SELECT try_cast(s AS INT) AS i FROM a", "to": [{"delta": "calm"}]},
    }
    values = [
        '{"n": 1, "k": 2, "s": "1"}',
        '{"n": 1, "k": 0, "s": "1"}',
        '{"n": 0, "k": 0, "s": "1"}',
        '{"n": 1, "k": null, "s": null}',
        '{"n": 1, "k": 0, "s": "x"}',
    ]
    found = judged(source, values, outputs=outputs)
    both = ("_compute_ratio", "_compute_number")
    assert [one.reasons for one in found] == [(), ("_compute_ratio",), (), (), both]


def test_rules_named_like_counters_and_columns_named_like_functions_do_no_harm(judged):
    source = {
        "topic": "t",
        "columns": [{"name": name, "type": "int"} for name in ("value", "count", "window", "key")],
        "rules": [
            {"name": "read", "expect": "value > 0"},
            {"name": "bad", "expect": "`count` > 0"},
            {"name": "warned", "expect": "`window` > 0", "otherwise": "warn"},
        ],
    }
    found = judged(source, ['{"value": 1, "count": 0, "window": 0, "key": 1}'])
    assert [(one.reasons, one.warned) for one in found] == [(("bad",), ("warned",))]


LINES = {
    "topic": "t",
    "format": "text",
    "pattern": r"^(?<time>\S+ \S+) (?:(?<level>INFO|WARN|ERROR) )?(?:took (?<ms>\d+) ms)?",
    "columns": [
        {"name": "time", "type": "timestamp", "zone": "UTC"},
        {"name": "level", "type": "string"},
        {"name": "ms", "type": "int"},
    ],
    "event_time": {"column": "time", "max_future": "10 minutes"},
    "rules": [{"name": "short", "expect": "length(line) < 100"}],
}


def test_lines_of_text_keep_their_parts_and_unreadable_times_are_quarantined(judged):
    expected: list[tuple[Any, Any]] = [
        ("2025-10-01 12:00:00 INFO hello", {"time": NOON, "level": "INFO", "ms": None}),
        ("2025-10-01 12:00:00 hello", {"time": NOON, "level": None}),
        ("2025-10-01 12:00:00 WARN took 15 ms", {"level": "WARN", "ms": 15}),
        ("2025-10-01 12:00:00 ", {"time": NOON, "line": "2025-10-01 12:00:00 "}),
        ("2025-10-01 12:00:00 took 99999999999 ms", ("_unreadable_ms",)),
        ("2025-10-01 25:00:00 INFO hello", NO_TIME),
        ("yesterday evening INFO hello", NO_TIME),
        ("no time", NO_TIME),
        ("", NO_TIME),
        (b"\x00\xff\xfe", NO_TIME),
        (b"2025-10-01 12:00:00 INFO \xff!", {"level": "INFO", "line": "2025-10-01 12:00:00 INFO �!"}),
        ("2025-10-01 12:00:00 INFO one\n2025-10-01 12:00:01 INFO two", {"time": NOON, "level": "INFO"}),
        ("2026-01-02 00:00:00 INFO too early", ("_future",)),
        ("1969-12-31 23:59:59 INFO old", {"time": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)}),
        ("2025-10-01 12:00:00 INFO " + "x" * 100, ("short",)),
        (None, PARSE),
    ]
    compare(judged(LINES, [value for value, _ in expected]), expected)


def test_lines_whose_event_time_is_the_arrival_are_all_good(judged):
    source = {"topic": "t", "format": "text", "event_time": {"arrival": True}}
    values = ["", "a", b"\xff", "2025-10-01 12:00:00 INFO", None]
    found = judged(source, values)
    assert [one.good for one in found] == [True, True, True, True, False]
    assert [one.row["line"] for one in found[:4]] == ["", "a", "�", "2025-10-01 12:00:00 INFO"]
    assert {one.row["_arrival"] for one in found} == {ARRIVED}


def test_every_one_of_many_records_comes_out_once(judged):
    values = [obj(f'"n": {n}') if n % 7 else obj(f'"n": "{n}"') for n in range(5000)]
    found = judged(WIDE, values)
    assert sum(one.good for one in found) == 5000 - math.ceil(5000 / 7)
    assert [one.row["n"] for one in found if one.good] == [n for n in range(5000) if n % 7]
