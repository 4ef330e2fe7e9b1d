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
    (row,) = result_rows(rows, ["minute", "level"], "minute", 0)
    assert row.event_time_ms == 1_759_320_000_000
    assert json.loads(row.key) == ["2025-10-01T12:00:00Z", None]
    assert row.body == {"minute": "2025-10-01T12:00:00Z", "level": None, "lines": 3}


def test_without_a_key_batch_and_place_tell_rows_apart():
    found = result_rows(table(x=pa.array([7, 7])), [], None, 4)
    assert [row.key for row in found] == ["[4, 0]", "[4, 1]"]
    assert [row.event_time_ms for row in found] == [None, None]


def test_rows_of_one_event_time_in_two_batches_do_not_replace_one_another():
    second = table(at=pa.array([NOON, NOON], pa.timestamp("us", tz="UTC")))
    keys = [row.key for batch in (1, 2) for row in result_rows(second, [], "at", batch)]
    assert len(set(keys)) == 4
    assert [row.key for row in result_rows(second, [], "at", 2)] == keys[2:]  # a batch that runs again


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
    (row,) = result_rows(rows, [], None, 0)
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
    found = result_rows(table(at=beyond), ["at"], "at", 0)
    assert [row.body["at"] for row in found] == [None, None, "1970-01-01T00:00:00Z"]
    assert [row.event_time_ms for row in found] == [None, None, 0]


def test_the_last_moment_of_the_calendar_stays_in_it():
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    (row,) = result_rows(table(at=pa.array([last], pa.timestamp("us", tz="UTC"))), [], "at", 0)
    assert row.event_time_ms == 253_402_300_799_999
    assert iso(row.event_time_ms) == "9999-12-31T23:59:59.999Z"


def test_dates_that_python_does_not_know_are_null_and_stop_nothing():
    days = pa.array([-719_528, 2_932_897, 0], pa.int32()).cast(pa.date32())
    found = result_rows(table(day=days), [], None, 0)
    assert [row.body["day"] for row in found] == [None, None, "1970-01-01"]


def test_a_time_beyond_python_inside_a_value_is_null_and_the_rest_of_the_value_stays():
    far = 10**18
    moment, day = pa.timestamp("us", tz="UTC"), pa.date32()
    inner = pa.struct([("at", pa.int64()), ("n", pa.int64())])
    known = pa.struct([("at", moment), ("n", pa.int64())])
    rows = table(
        o=pa.array([{"at": far, "n": 1}, {"at": 0, "n": 2}, None], inner).cast(known),
        many=pa.array([[far, 0], [], None], pa.list_(pa.int64())).cast(pa.list_(moment)),
        m=pa.array([[("a", -719_528), ("b", 0)], [], None], pa.map_(pa.string(), pa.int32())).cast(
            pa.map_(pa.string(), day)
        ),
        plain=pa.array([1, 2, 3]),
    )
    epoch, first = "1970-01-01T00:00:00Z", "1970-01-01"
    assert [row.body for row in result_rows(rows, [], None, 0)] == [
        {
            "o": {"at": None, "n": 1},
            "many": [None, epoch],
            "m": [["a", None], ["b", first]],
            "plain": 1,
        },
        {"o": {"at": epoch, "n": 2}, "many": [], "m": [], "plain": 2},
        {"o": None, "many": None, "m": None, "plain": 3},
    ]


def test_rows_without_columns_and_without_rows_are_none():
    assert result_rows(table(x=pa.array([], pa.int64())), [], None, 0) == []
