from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa

from serving.moments import iso
from spark.rows import result_rows

NOON = datetime(2025, 10, 1, 12, tzinfo=UTC)


def table(**columns: pa.Array) -> pa.Table:
    return pa.table(columns)


def test_a_row_has_its_event_time_in_milliseconds_and_the_key_of_the_contract():
    rows = table(
        minute=pa.array([NOON], pa.timestamp("us", tz="UTC")),
        level=pa.array([None], pa.string()),
        lines=pa.array([3], pa.int64()),
    )
    (row,) = result_rows(rows, ["minute", "level"], "minute")
    assert row.event_time_ms == 1_759_320_000_000
    assert json.loads(row.key) == ["2025-10-01T12:00:00Z", None]
    assert row.body == {"minute": "2025-10-01T12:00:00Z", "level": None, "lines": 3}


def test_without_a_key_the_place_among_the_rows_tells_them_apart():
    found = result_rows(table(x=pa.array([7, 7])), [], None)
    assert [row.key for row in found] == ["[0]", "[1]"]
    assert [row.event_time_ms for row in found] == [None, None]


def test_every_type_of_a_table_becomes_json():
    rows = table(
        n=pa.array([float("nan")]),
        i=pa.array([-math.inf]),
        d=pa.array([Decimal("1.50")]),
        day=pa.array([date(2025, 10, 1)]),
        raw=pa.array([b"\x00\xff"]),
        o=pa.array([{"x": [1.5, None], "at": NOON}]),
        m=pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    )
    (row,) = result_rows(rows, [], None)
    assert row.body == {
        "n": None,
        "i": None,
        "d": "1.50",
        "day": "2025-10-01",
        "raw": "AP8=",
        "o": {"x": [1.5, None], "at": "2025-10-01T12:00:00Z"},
        "m": [["k", 1]],
    }
    json.dumps(row.body, allow_nan=False)


def test_times_that_python_does_not_know_are_null_and_stop_nothing():
    beyond = pa.array([10**18, -(10**17), 0], pa.int64()).cast(pa.timestamp("us", tz="UTC"))
    found = result_rows(table(at=beyond), ["at"], "at")
    assert [row.body["at"] for row in found] == [None, None, "1970-01-01T00:00:00Z"]
    assert [row.event_time_ms for row in found] == [None, None, 0]


def test_the_last_moment_of_the_calendar_stays_in_it():
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    (row,) = result_rows(table(at=pa.array([last], pa.timestamp("us", tz="UTC"))), [], "at")
    assert row.event_time_ms == 253_402_300_799_999
    assert iso(row.event_time_ms) == "9999-12-31T23:59:59.999Z"
