from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.batches import HoldChange, ResultRow, as_json, prepare
from serving.moments import iso, seconds_of


def row(at: int | None, key: str = "k") -> ResultRow:
    return ResultRow(at, key, {"at": at})


def test_only_event_times_that_can_be_kept_are_sent() -> None:
    batch = prepare([row(at) for at in (5, 1, 4, 2, 3)], batch_id=0, epoch=1, keep=2, by_event_time=True)
    assert [score for score, *_ in batch.rows] == [4, 5]
    assert batch.newest_left_out == 3
    assert len(batch.tail) == 5, "the live stream shows late results as well"


def test_rows_of_one_event_time_stand_together() -> None:
    rows = [row(1, "a"), row(2, "a"), row(1, "b"), row(2, "b")]
    batch = prepare(rows, batch_id=0, epoch=1, keep=9, by_event_time=True)
    assert [score for score, *_ in batch.rows] == [1, 1, 2, 2]


def test_an_output_without_event_time_is_one_group_per_batch() -> None:
    batch = prepare([row(None, "a"), row(None, "b")], batch_id=7, epoch=1, keep=1, by_event_time=False)
    assert batch.mode == "arrival"
    assert {name for _, name, *_ in batch.rows} == {"batch:7"}


@pytest.mark.parametrize("rows", [[], [row(None, "a"), row(None, "b")]])
def test_whether_event_times_count_is_the_contracts_word_and_not_read_off_the_rows(
    rows: list[ResultRow],
) -> None:
    batch = prepare(rows, batch_id=0, epoch=1, keep=1, by_event_time=True)
    assert (batch.mode, batch.rows, len(batch.tail)) == ("event", (), len(rows))
    assert prepare(rows, batch_id=0, epoch=1, keep=1, by_event_time=False).mode == "arrival"


def test_the_tail_says_how_many_rows_it_left_out() -> None:
    batch = prepare([row(at) for at in range(600)], batch_id=0, epoch=1, keep=1, by_event_time=True)
    entries = [json.loads(entry) for entry in batch.tail]
    assert (len(entries), entries[0]["omitted"], "omitted" in entries[1]) == (500, 100, False)
    assert entries[-1]["body"] == {"at": 599}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), '"NaN"'),
        ({"a": [float("inf"), -float("inf"), 1.5]}, '{"a":["Infinity","-Infinity",1.5]}'),
        ({"a": "é"}, '{"a":"\\u00e9"}'),
    ],
)
def test_bodies_are_strict_json(value: object, text: str) -> None:
    assert as_json(value) == text


@pytest.mark.parametrize(
    ("status", "severity", "change"),
    [
        ("passed", "", HoldChange.RELEASE),
        ("failed", "critical", HoldChange.WITHHOLD),
        ("failed", "warning", HoldChange.RELEASE),
        ("errored", "", HoldChange.NONE),
        ("no_data", "critical", HoldChange.NONE),
    ],
)
def test_only_a_critical_failure_withholds(status: str, severity: str, change: HoldChange) -> None:
    assert HoldChange.of(status, severity) is change


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_a_moment_reads_back_as_it_was(milliseconds: int) -> None:
    assert seconds_of(iso(milliseconds)) == pytest.approx(milliseconds / 1000, abs=1e-4)


def test_moments_have_milliseconds_only_where_there_are_some() -> None:
    assert iso(1_696_161_600_000) == "2023-10-01T12:00:00Z"
    assert iso(1_696_161_600_250) == "2023-10-01T12:00:00.250Z"
    assert iso(-1) == "1969-12-31T23:59:59.999Z"
