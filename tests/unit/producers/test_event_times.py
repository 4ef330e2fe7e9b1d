from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from headgate.contract.model import Column, Source
from producers.datetimes import micros_of
from producers.event_times import LineTimes, event_time_column, time_column

DAY = 86_400_000_000


def micros(*parts: int) -> int:
    return micros_of(datetime(*parts, tzinfo=UTC))  # type: ignore[misc]


def text_source(pattern: str, **column: Any) -> Source:
    return Source.model_validate(
        {
            "topic": "t",
            "format": "text",
            "pattern": pattern,
            "columns": [{"name": "time", "type": "timestamp", **column}],
            "event_time": {"column": "time"},
        }
    )


def lines(source: Source) -> LineTimes:
    column = event_time_column(source)
    assert column is not None
    return LineTimes(source, column)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-10-01 12:00:00", micros(2023, 10, 1, 12)),
        ("2023-10-01T12:00:00.25", micros(2023, 10, 1, 12, 0, 0, 250_000)),
        ("2023-10-01 12:00:00+02:00", micros(2023, 10, 1, 10)),
        ("2023-10-01T12:00:00Z", micros(2023, 10, 1, 12)),
        ("2023-10-01", micros(2023, 10, 1)),
        (" 2023-10-01 9:05 ", micros(2023, 10, 1, 9, 5)),
        ("2023-13-01 12:00:00", None),
        ("12:00:00", None),
        ("", None),
        (20231001, None),
        (None, None),
    ],
)
def test_times_without_a_format_are_read_as_spark_casts_them(text: Any, expected: int | None) -> None:
    assert time_column(Column(name="t", type="timestamp")).micros(text) == expected


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("2023-10-01 12:00:00", "2023-10-02 12:00:00"),
        ("2023-10-01T12:00:00.250Z", "2023-10-02T12:00:00.250Z"),
        ("2023-10-01 12:00:00+0200", "2023-10-02 12:00:00+0200"),
        ("2023-10-01", "2023-10-02"),
    ],
)
def test_times_without_a_format_keep_their_looks_when_moved(text: str, moved: str) -> None:
    times = time_column(Column(name="t", type="timestamp", zone="Europe/Berlin"))
    before = times.micros(text)
    assert before is not None
    assert times.moved(text, before + DAY) == moved
    assert times.micros(moved) == before + DAY


@pytest.mark.parametrize(
    ("format", "value", "moved"),
    [
        ("epoch_seconds", 1_696_161_600, 1_696_248_000),
        ("epoch_seconds", "1696161600", "1696248000"),
        ("epoch_seconds", "1696161600.250", "1696248000.250"),
        ("epoch_millis", 1_696_161_600_123, 1_696_248_000_123),
    ],
)
def test_numbers_stay_numbers_and_texts_texts(format: str, value: Any, moved: Any) -> None:
    times = time_column(Column(name="t", type="timestamp", format=format))
    before = times.micros(value)
    assert before is not None
    assert times.moved(value, before + DAY) == moved


def test_a_boolean_or_a_word_is_no_time() -> None:
    times = time_column(Column(name="t", type="timestamp", format="epoch_seconds"))
    assert times.micros(True) is None
    assert times.micros("now") is None


def test_a_line_is_shifted_where_the_pattern_finds_its_time_and_nowhere_else() -> None:
    times = lines(
        text_source(r"^(?<time>\d\d/\d\d/\d\d \d\d:\d\d:\d\d) (?<level>\w+)", format="yy/MM/dd HH:mm:ss")
    )
    line = b"17/06/09 20:10:40 INFO 17/06/09 \xff\xfe caf\xc3\xa9"
    assert times.micros(line) == micros(2017, 6, 9, 20, 10, 40)
    assert times.shift(line, DAY) == b"17/06/10 20:10:40 INFO 17/06/09 \xff\xfe caf\xc3\xa9"


def test_a_line_without_a_time_stays_as_it_is() -> None:
    times = lines(text_source(r"^(?<time>\d{4}-\d\d-\d\d)"))
    for line in (b"\tat java.lang.Thread.run", b"9999-99-99", b"", b"\x00\xff"):
        assert times.micros(line) is None
        assert times.shift(line, DAY) == line


def test_digits_of_other_scripts_are_no_digits_as_in_java() -> None:
    times = lines(text_source(r"(?<time>\d{4}-\d\d-\d\d)"))
    assert times.micros("٢٠٢٣-١٠-٠١".encode()) is None


def test_without_arrival_or_column_there_is_no_event_time() -> None:
    source = Source.model_validate({"topic": "t", "format": "text", "event_time": {"arrival": True}})
    assert event_time_column(source) is None
