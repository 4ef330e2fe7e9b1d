from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.datetimes import JavaPattern, PatternError, micros_of, zone_of


def micros(*parts: int) -> int:
    return micros_of(datetime(*parts, tzinfo=UTC))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("yyyy-MM-dd HH:mm:ss", "2023-10-01 12:00:00", micros(2023, 10, 1, 12)),
        ("yyyy-MM-dd HH:mm:ss,SSS", "2015-07-29 17:41:44,747", micros(2015, 7, 29, 17, 41, 44, 747_000)),
        ("yy/MM/dd HH:mm:ss", "17/06/09 20:10:40", micros(2017, 6, 9, 20, 10, 40)),
        ("dd/MMM/yyyy:HH:mm:ss Z", "10/Oct/2000:13:55:36 -0700", micros(2000, 10, 10, 20, 55, 36)),
        ("yyyy-MM-dd'T'HH:mm:ssXXX", "2023-10-01T12:00:00+02:00", micros(2023, 10, 1, 10)),
        ("yyyy-MM-dd'T'HH:mm:ssX", "2023-10-01T12:00:00Z", micros(2023, 10, 1, 12)),
        ("EEE MMM dd HH:mm:ss yyyy", "Sun Dec 04 04:47:44 2005", micros(2005, 12, 4, 4, 47, 44)),
        ("M/d/yyyy h:mm a", "1/2/2023 12:05 am", micros(2023, 1, 2, 0, 5)),
        ("M/d/yyyy hh:mm:ss a", "1/2/2023 11:05:09 PM", micros(2023, 1, 2, 23, 5, 9)),
        ("yyyyDDD HH:mm", "2024366 23:59", micros(2024, 12, 31, 23, 59)),
        ("yyyy-MM-dd HH:mm:ss[.SSS]", "2023-10-01 12:00:00", micros(2023, 10, 1, 12)),
        ("yyyy-MM-dd HH:mm:ss[.SSS]", "2023-10-01 12:00:00.5", micros(2023, 10, 1, 12, 0, 0, 500_000)),
        ("dd''MM''yyyy", "01'10'2023", micros(2023, 10, 1)),
        ("yyyyMMddHHmmss", "20231001120000", micros(2023, 10, 1, 12)),
    ],
)
def test_texts_are_read_as_the_pattern_says(pattern: str, text: str, expected: int) -> None:
    assert JavaPattern(pattern).parse(text) == expected


@pytest.mark.parametrize("text", ["Dec 10 06:55:46", "Dec  1 06:55:46", "dec 1 06:55:46"])
def test_a_missing_year_is_the_default_year_and_spaces_run_together(text: str) -> None:
    day = 10 if "10" in text else 1
    pattern = JavaPattern("MMM d HH:mm:ss", default_year=2019)
    assert pattern.parse(text) == micros(2019, 12, day, 6, 55, 46)


@pytest.mark.parametrize(
    "text", ["2023-02-30 00:00:00", "2023-10-01 25:00:00", "2023-10-01", "x2023-10-01 12:00:00", ""]
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert JavaPattern("yyyy-MM-dd HH:mm:ss").parse(text) is None


def test_a_time_without_zone_is_in_the_columns_zone() -> None:
    berlin = JavaPattern("yyyy-MM-dd HH:mm", zone=zone_of("Europe/Berlin"))
    assert berlin.parse("2023-07-01 12:00") == micros(2023, 7, 1, 10)
    assert berlin.parse("2023-01-01 12:00") == micros(2023, 1, 1, 11)
    assert berlin.write(micros(2023, 7, 1, 10), "2023-01-01 00:00") == "2023-07-01 12:00"


@pytest.mark.parametrize(
    ("pattern", "like", "expected"),
    [
        ("MMM d HH:mm:ss", "Dec 10 06:55:46", "Mar  5 04:03:02"),
        ("yy/MM/dd HH:mm:ss", "17/06/09 20:10:40", "24/03/05 04:03:02"),
        ("dd/MMM/yyyy:HH:mm:ss Z", "10/Oct/2000:13:55:36 -0700", "04/Mar/2024:21:03:02 -0700"),
        ("yyyy-MM-dd'T'HH:mm:ss[.SSS]X", "2000-01-01T00:00:00Z", "2024-03-05T04:03:02Z"),
        ("yyyy-MM-dd'T'HH:mm:ss[.SSS]X", "2000-01-01T00:00:00.1Z", "2024-03-05T04:03:02.678Z"),
        ("yyyy-MM-dd HH:mm:ss,SSS", " 2015-07-29 17:41:44,747", " 2024-03-05 04:03:02,678"),
        ("h:mm a, EEEE d MMMM yyyy", "1:00 PM, Monday 1 May 2000", "4:03 AM, Tuesday  5 March 2024"),
    ],
)
def test_a_moment_is_written_like_the_text_it_replaces(pattern: str, like: str, expected: str) -> None:
    moment = micros(2024, 3, 5, 4, 3, 2, 678_901)
    assert JavaPattern(pattern).write(moment, like) == expected


@given(st.datetimes(datetime(1970, 1, 1), datetime(9998, 1, 1)))  # noqa: DTZ001
def test_what_is_written_reads_back(moment: datetime) -> None:
    wanted = micros_of(moment.replace(microsecond=0, tzinfo=UTC))
    for pattern in ("yyyy-MM-dd HH:mm:ss", "dd/MMM/yyyy:HH:mm:ss Z", "EEE d MMMM yyyy h:mm:ss a"):
        compiled = JavaPattern(pattern)
        assert compiled.parse(compiled.write(wanted, "")) == wanted


@pytest.mark.parametrize("pattern", ["yyyy-MM-dd QQ", "yyyyTMM", "[yyyy"])
def test_patterns_that_are_not_supported_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        JavaPattern(pattern)


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(PatternError, match="Mars/Phobos"):
        zone_of("Mars/Phobos")
