"""The event times of records as the driver will read them, and records moved in time.

Used before a file is sent: where does it lie, and what would it look like if it ended now. What cannot
be read here has no time (None) and is sent unchanged: the stream's quarantine judges it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from headgate.contract.model import Column, Source
from headgate.contract.text import python_pattern
from producers.datetimes import DAY, FIRST, LAST, JavaPattern, from_micros, micros_of, zone_of

__all__ = ["LineTimes", "TimeColumn", "column_named", "event_time_column", "group_reader", "time_column"]

# What Spark casts to a timestamp, once there is a whole date at the front.
_PLAIN = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?:(?P<between>[ T])(?P<hour>\d{1,2}):(?P<minute>\d{1,2})"
    r"(?::(?P<second>\d{1,2})(?:\.(?P<fraction>\d{1,9}))?)?)?"
    r"(?P<space> ?)(?P<zone>Z|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)


class TimeColumn(Protocol):
    """Reads and writes one column's times; `text` is a string, or for JSON any value."""

    def micros(self, text: Any) -> int | None:
        """Microseconds since 1970, or None."""

    def moved(self, text: Any, micros: int) -> Any:
        """The same kind of text for another moment."""


def event_time_column(source: Source) -> Column | None:
    """The column that holds a record's event time; None when it has none or takes Kafka's arrival."""
    if source.event_time is None or source.event_time.column is None:
        return None
    return column_named(source, source.event_time.column)


def column_named(source: Source, name: str) -> Column | None:
    return next((column for column in source.columns if column.name == name), None)


def time_column(column: Column) -> TimeColumn:
    """How a column writes its times. Raises PatternError for a pattern that is not supported here."""
    if column.format in {"epoch_seconds", "epoch_millis"}:
        return _Epoch(1_000_000 if column.format == "epoch_seconds" else 1_000)
    zone = zone_of(column.zone)
    if column.format:
        return _Patterned(JavaPattern(column.format, zone=zone, default_year=column.default_year))
    return _Plain(column.zone)


class LineTimes:
    """The times in lines of text, found with the contract's pattern. Raises PatternError."""

    def __init__(self, source: Source, column: Column) -> None:
        self._times = time_column(column)
        self._group = column.name
        self._pattern = _line_pattern(source, column.name)
        self._like = ""

    def micros(self, line: bytes) -> int | None:
        match = self._pattern.search(_text(line))
        if match is None or not match[self._group]:
            return None
        found = self._times.micros(match[self._group])
        if found is not None:
            self._like = match[self._group]
        return found

    def reads_back(self, micros: int) -> bool:
        """Whether this moment, written like the last time that was read, is read as this moment."""
        moved = self._times.micros(self._times.moved(self._like, micros)) if self._like else None
        return moved is not None and abs(moved - micros) < DAY

    def shift(self, line: bytes, by: int) -> bytes:
        """The line with its time moved by so many microseconds, everything else as it is."""
        text = _text(line)
        match = self._pattern.search(text)
        if match is None or not match[self._group]:
            return line
        found = match[self._group]
        micros = self._times.micros(found)
        if micros is None:
            return line
        start, end = match.span(self._group)
        return _bytes(text[:start] + self._times.moved(found, micros + by) + text[end:])


def group_reader(source: Source, name: str) -> Callable[[bytes], bytes | None]:
    """Reads one named group of the contract's pattern from a line, None where it is not there."""
    pattern = _line_pattern(source, name)

    def read(line: bytes) -> bytes | None:
        match = pattern.search(_text(line))
        return _bytes(match[name]) if match is not None and match[name] is not None else None

    return read


def _line_pattern(source: Source, name: str) -> re.Pattern[str]:
    """The contract's pattern; a column that it has no group for is the whole line, as in the driver."""
    if source.pattern is not None:
        pattern = re.compile(python_pattern(source.pattern), re.ASCII)
        if name in pattern.groupindex:
            return pattern
    return re.compile(f"(?P<{name}>.*)", re.DOTALL)


class _Plain:
    """Times that Spark reads without a pattern: `2023-10-01 12:00:00`, `2023-10-01T12:00:00.25+02:00`."""

    def __init__(self, zone: str | None) -> None:
        self._zone = zone_of(zone)
        self._parse = lru_cache(maxsize=4096)(self._micros)

    def micros(self, text: Any) -> int | None:
        return self._parse(text) if isinstance(text, str) else None

    def _micros(self, text: str) -> int | None:
        match = _PLAIN.fullmatch(text.strip())
        if match is None:
            return None
        try:
            moment = datetime(
                *(int(match["year"]), int(match["month"]), int(match["day"])),
                *(int(match["hour"] or 0), int(match["minute"] or 0), int(match["second"] or 0)),
                int((match["fraction"] or "0").ljust(6, "0")[:6]),
                tzinfo=self._zone_in(match["zone"]),
            )
        except ValueError:
            return None
        return micros_of(moment)

    def moved(self, text: Any, micros: int) -> str:
        match = _PLAIN.fullmatch(str(text).strip())
        if match is None:
            raise ValueError(f"{text!r} is no time")
        moment = from_micros(micros, self._zone_in(match["zone"]))
        written = moment.strftime("%Y-%m-%d")
        if match["hour"]:
            written += match["between"] + moment.strftime("%H:%M")
        if match["second"]:
            written += moment.strftime(":%S")
        if match["fraction"]:
            written += "." + moment.strftime("%f").ljust(9, "0")[: len(match["fraction"])]
        return written + match["space"] + (match["zone"] or "")

    def _zone_in(self, text: str | None) -> Any:
        if text is None:
            return self._zone
        return UTC if text in {"Z", "UTC"} else zone_of(_with_colon(text))


class _Patterned:
    def __init__(self, pattern: JavaPattern) -> None:
        self._pattern = pattern
        self._parse = lru_cache(maxsize=4096)(pattern.parse)

    def micros(self, text: Any) -> int | None:
        return self._parse(text) if isinstance(text, str) else None

    def moved(self, text: Any, micros: int) -> str:
        return self._pattern.write(micros, str(text))


class _Epoch:
    """Numbers since 1970, as a number or as text, whole or with a fraction."""

    def __init__(self, scale: int) -> None:
        self._scale = scale

    def micros(self, text: Any) -> int | None:
        if isinstance(text, bool) or not isinstance(text, int | float | Decimal | str):
            return None
        try:
            micros = round(float(text) * self._scale) if "." in str(text) else int(text) * self._scale
        except (ValueError, OverflowError):
            return None
        return micros if FIRST <= micros <= LAST else None

    def moved(self, text: Any, micros: int) -> Any:
        whole = "." not in str(text)
        value: int | float = micros // self._scale if whole else micros / self._scale
        if isinstance(text, str):
            digits = len(text.partition(".")[2])
            return str(value) if whole else f"{value:.{digits}f}"
        return value


def _with_colon(offset: str) -> str:
    digits = offset[1:].replace(":", "").ljust(4, "0")
    return f"{offset[0]}{digits[:2]}:{digits[2:]}"


def _text(line: bytes) -> str:
    """Text in which bytes that are not UTF-8 keep their place and come back as they were."""
    return line.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
