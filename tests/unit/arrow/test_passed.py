"""What a task passes on for a stateful output: columns, rows and their order, and what it leaves to Spark."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hostile_records import COLUMNS, CORPUS, EVENT_TIME
from hypothesis import example, given, settings
from hypothesis import strategies as st
from two_lanes import frozen_of

from headgate.arrow.kinds import MOMENT
from headgate.arrow.passed import PassedPlan, passed_plan, passed_rows, read_sources, unsupported_reason
from headgate.arrow.screen import RAW, Screen
from headgate.contract.frozen import FrozenContract

WINDOWS = "SELECT window.start AS w, S, count(*) AS c FROM a WHERE n > 0 GROUP BY window(at, '1 minute'), S"
ARRIVED = datetime(2026, 1, 1, tzinfo=UTC)


def frozen(sql: str = WINDOWS, **source: Any) -> FrozenContract:
    rules = [{"name": "small", "expect": "n < 100 OR n IS NULL"}]
    base = {"topic": "t", "columns": COLUMNS, "event_time": EVENT_TIME, "rules": rules}
    outputs = {"o": {"sql": sql, "to": [{"redis": "o"}], "lane": "arrow"}}
    return frozen_of({**base, **source}, outputs, {"o": {}}, stateful=True)


def passed(values: list[bytes | None], plan: PassedPlan) -> list[dict[str, Any]]:
    moments = pa.array([ARRIVED] * len(values), MOMENT)
    columns = [
        pa.array([b"k"] * len(values), pa.binary()),
        pa.array(values, pa.binary()),
        pa.array([3] * len(values), pa.int32()),
        pa.array(range(len(values)), pa.int64()),
        moments,
        moments,
    ]
    rows = passed_rows(Screen(plan.records, "t").judge(pa.table(columns, schema=RAW)), plan)
    assert rows.schema == plan.schema
    found: list[dict[str, Any]] = rows.to_pylist()
    return found


def record(**fields: Any) -> bytes:
    return json.dumps({"at": "2025-10-01 12:00:00", "l": 7, "s": "a", **fields}).encode()


def test_good_records_and_those_left_to_spark_come_in_the_order_of_their_offsets():
    values = [
        record(n=1),
        record(s=5),
        record(n=1000),
        b"{",
        record(n=2, s="b"),
        record(at="2025-10-01 12:00"),
    ]
    rows = passed(values, passed_plan(frozen(), "o", "a"))
    assert [(row["n"], row["s"]) for row in rows] == [(1, "a"), (None, None), (2, "b"), (None, None)]
    left = [row["_as_came"] for row in rows]
    assert [each and [came["_value"] for came in each] for each in left] == [
        None,
        [values[1]],
        None,
        [values[5]],
    ]
    assert left[1] == [
        {
            "_key": b"k",
            "_value": values[1],
            "_partition": 3,
            "_offset": 1,
            "_arrival": ARRIVED,
            "_now": ARRIVED,
        }
    ]


def test_without_doubt_nothing_is_left_to_spark_and_an_empty_batch_has_no_rows():
    plan = passed_plan(frozen(), "o", "a")
    assert [row["_as_came"] for row in passed([record(n=1), b"{", None], plan)] == [None]
    assert passed([], plan) == []
    assert passed([b"{", None], plan) == []


# Where the other one breaks their block the first, whose time is none, is Spark's to judge; alone it is not.
MOVED = [
    b'{"at": "2025-10-01 12:00:00", "l": 7, "ms": -9223372036854775808}',
    b'{"at": "2025-10-01 12:00:00", "l": 7, "n": 1.0}',
]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(CORPUS), max_size=40))
@example(MOVED)
def test_what_is_passed_on_is_good_or_left_and_never_bad(values):
    plan = passed_plan(frozen("SELECT * FROM a"), "o", "a")
    judged = Screen(plan.records, "t")
    rows = passed(values, plan)
    good = {row["_offset"] for row in rows if row["_as_came"] is None}
    left = {came["_offset"] for row in rows for came in row["_as_came"] or []}
    assert len(good) + len(left) == len(rows)
    assert not good & left
    alone = {place: judged.judge(_one(value, place)) for place, value in enumerate(values)}
    bad = {place for place, each in alone.items() if each.bad.num_rows}
    # What a neighbour may change is who judges a record, and never the verdict.
    assert good.isdisjoint(bad)
    assert good | left | bad == set(range(len(values)))


def _one(value: bytes | None, place: int) -> pa.Table:
    moment = pa.array([ARRIVED], MOMENT)
    columns = [
        pa.array([b"k"], pa.binary()),
        pa.array([value], pa.binary()),
        pa.array([3], pa.int32()),
        pa.array([place], pa.int64()),
        moment,
        moment,
    ]
    return pa.table(columns, schema=RAW)


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        (WINDOWS, ["at", "n", "s"]),
        ("SELECT count(*) AS c FROM a", ["at"]),
        ("SELECT x.B, count(x.`day`) AS c FROM a x GROUP BY x.B", ["at", "b", "day"]),
        ("SELECT max(_offset) AS o, min(_topic) AS p FROM a", ["at", "_topic", "_offset"]),
        ("SELECT first(ms) AS v FROM (SELECT ms FROM a WHERE t IS NOT NULL)", ["at", "t", "ms"]),
    ],
)
def test_columns_are_those_whose_name_stands_in_the_query_and_the_event_time(sql, columns):
    assert list(passed_plan(frozen(sql), "o", "a").columns) == columns


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT DISTINCT * FROM a",
        "SELECT count(DISTINCT *) AS c FROM a",
        "SELECT x.n, y.l FROM a x NATURAL JOIN a y",
        "SELECT count(*, n) AS whole FROM a",
        "SELECT first(c3) AS f FROM a AS r(c1, c2, c3)",
        "SELECT max(struct(*)) AS m FROM a",
    ],
)
def test_a_query_that_uses_columns_without_writing_them_gets_all(sql):
    every = [column["name"] for column in COLUMNS]
    origin = ["_key", "_topic", "_partition", "_offset", "_arrival"]
    assert list(passed_plan(frozen(sql), "o", "a").columns) == [*every, *origin]


def test_the_arrival_is_passed_on_where_it_is_the_event_time():
    found = passed_plan(frozen("SELECT count(*) AS c FROM a", event_time={"arrival": True}), "o", "a")
    assert found.columns == ("_arrival",)


def test_what_a_query_reads_is_what_has_to_be_readable():
    assert read_sources(frozen(), "o") == ["a"]
    assert unsupported_reason(frozen(), "o") is None
    rules = [{"name": "loud", "expect": "upper(s) = s"}]
    assert (
        unsupported_reason(frozen(rules=rules), "o") == "rule loud: `UPPER(s)` is not known to the Arrow lane"
    )
    lines = frozen(format="text", pattern="(?<at>.)(?<l>.)(?<s>.)(?=x)", columns=COLUMNS[:1], rules=[])
    assert "only Java reads" in str(unsupported_reason(lines, "o"))
