"""The range of a replay: how it is asked for, and what of it is not there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import UsageError
from headgate.replays.ranges import Place, cut, parse_from, parse_to

KEY = ("t", 0)


def test_places_are_a_word_a_time_or_a_file():
    assert parse_from("earliest") == Place("earliest")
    assert parse_to("now") == Place("now")
    assert parse_from("timestamp=2026-01-31T06:00:00Z") == Place("timestamp", "2026-01-31T06:00:00Z")
    assert parse_to("offsets=a=b.json") == Place("offsets", "a=b.json")


@pytest.mark.parametrize("text", ["now", "latest", "timestamp", "timestamp=", "offset=3", ""])
def test_what_is_no_place_to_begin_at_is_refused(text):
    with pytest.raises(UsageError, match="says no place in a topic"):
        parse_from(text)


def test_what_retention_took_is_told_by_its_offsets():
    ranges, problems = cut({KEY: 3}, {KEY: 50}, {KEY: 10}, {KEY: 60})
    assert [each.records for each in ranges] == [47]
    assert problems == [
        "topic t, partition 0: the records 3 to 9 are gone, retention took them; the first one that is "
        "there has offset 10"
    ]
    (problem,) = cut({KEY: 3}, {KEY: 5}, {KEY: 10}, {KEY: 60})[1]
    assert "the records 3 to 4 are gone" in problem


@pytest.mark.parametrize(
    ("begin", "end", "told"),
    [
        ({KEY: 10}, {KEY: 61}, "offset 61 is not there yet, the topic ends at 60"),
        ({KEY: 30}, {KEY: 20}, "the range ends at 20, before it begins at 30"),
        ({KEY: 30}, {KEY: 30}, "there is no record in this range"),
        ({}, {KEY: 30}, "no offset is given for it"),
        ({KEY: 10, ("u", 0): 1}, {KEY: 30}, "the pipeline reads no such partition"),
    ],
)
def test_a_range_that_cannot_be_read_is_told(begin, end, told):
    assert any(told in problem for problem in cut(begin, end, {KEY: 10}, {KEY: 60})[1])


numbers = st.integers(0, 20)


@given(numbers, numbers, numbers, numbers)
def test_a_range_without_problems_is_wholly_there(first, last, low, more):
    ranges, problems = cut({KEY: first}, {KEY: last}, {KEY: low}, {KEY: low + more})
    there = first < last and low <= first and last <= low + more
    assert (not problems) == there
    if there:
        assert [(each.first, each.last) for each in ranges] == [(first, last)]
