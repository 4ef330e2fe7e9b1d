"""Times as a contract's columns write them: Spark's datetime patterns (Java's), read and written in Python.

It follows what the driver does with the same column (`spark.decode`): runs of white space count as one
space, a missing year is the contract's default year, a time without a zone is in the column's zone.
Moments are microseconds since 1970 in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

__all__ = ["DAY", "FIRST", "LAST", "JavaPattern", "PatternError", "from_micros", "micros_of", "zone_of"]

DAY = 86_400_000_000  # in microseconds
# The years 1 to 9999, less the days at their ends that another time zone would push out.
FIRST, LAST = -62_135_596_800_000_000 + DAY, 253_402_300_799_999_999 - DAY
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TOKEN = re.compile(r"'(?:[^']|'')*'|\s+|([A-Za-z])\1*|.", re.DOTALL)
_OFFSET = r"Z|[+-]\d\d(?::?\d\d)?"


class PatternError(ValueError):
    """The pattern uses something that is not supported here, and what."""


def micros_of(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int, zone: tzinfo) -> datetime:
    return (_EPOCH + timedelta(microseconds=micros)).astimezone(zone)


def zone_of(name: str | None) -> tzinfo:
    """The zone of a column; Spark's session zone, UTC, when it names none. Raises PatternError."""
    if name is None or name in {"UTC", "Z"}:
        return UTC
    if re.fullmatch(r"[+-]\d\d:\d\d", name):
        return _offset(name)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise PatternError(f"there is no time zone {name!r} on this machine") from error


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of the pattern: the expression that reads it, and what writes it."""

    expression: str
    write: Callable[[datetime], str]


class JavaPattern:
    """A datetime pattern such as `dd/MMM/yyyy:HH:mm:ss Z`. Raises PatternError for what it cannot do.

    `parse` gives microseconds, or None for a text that does not fit; `write` gives the text of a moment,
    with those optional sections (`[…]`) that are in the text it resembles.
    """

    def __init__(self, pattern: str, *, zone: tzinfo = UTC, default_year: int | None = None) -> None:
        self._zone = zone
        self._year = default_year or 1970
        self._fields: list[tuple[str, int]] = []
        self._parts: list[_Part | int] = []  # an int opens the optional section of that number, -1 closes
        expression, sections = "", 0
        tokens = [match[0] for match in _TOKEN.finditer(pattern.strip())]
        for index, token in enumerate(tokens):
            if token == "[":
                sections += 1
                expression += f"(?P<section{sections}>"
                self._parts.append(sections)
            elif token == "]":
                expression += ")?"
                self._parts.append(-1)
            else:
                part = self._part(token, index > 0 and tokens[index - 1].isspace())
                expression += part.expression
                self._parts.append(part)
        try:
            self._expression = re.compile(expression, re.IGNORECASE | re.ASCII)
        except re.error as error:
            raise PatternError(f"{pattern!r}: {error}") from error

    def parse(self, text: str) -> int | None:
        match = self._expression.fullmatch(text.strip())
        if match is None:
            return None
        values: dict[str, str] = {}
        for index, (letter, _) in enumerate(self._fields):
            found = match[f"f{index}"]
            if found is not None:
                values[letter] = found
        try:
            return micros_of(self._moment(values))
        except (ValueError, OverflowError, PatternError):
            return None

    def write(self, micros: int, like: str) -> str:
        match = self._expression.fullmatch(like.strip())
        zone = self._zone
        if match is not None:
            for index, (letter, _) in enumerate(self._fields):
                if letter in "zone" and match[f"f{index}"]:
                    zone = _any_zone(match[f"f{index}"])
        moment = from_micros(micros, zone)
        text, skipping = "", False
        for part in self._parts:
            if isinstance(part, int):
                skipping = part > 0 and (match is None or match[f"section{part}"] is None)
            elif not skipping:
                text += part.write(moment)
        lead = like[: len(like) - len(like.lstrip())]
        return lead + text + like[len(like.rstrip()) :]

    def _part(self, token: str, after_space: bool) -> _Part:
        if token.isspace():
            return _Part(r"\s+", lambda _: " ")
        if token.startswith("'"):
            literal = "'" if token == "''" else token[1:-1].replace("''", "'")
            return _Part(_spaced(literal), lambda _: literal)
        if not token[0].isalpha():
            return _Part(re.escape(token), lambda _: token)
        letter, count = token[0], len(token)
        made = _letters(letter, count, after_space)
        if made is None:
            raise PatternError(f"the datetime pattern letter {token!r} is not supported")
        kind, part = made
        self._fields.append((kind, count))
        return _Part(f"(?P<f{len(self._fields) - 1}>{part.expression})", part.write)

    def _moment(self, values: dict[str, str]) -> datetime:
        year = _year(values.get("y"), self._year)
        if "D" in values:
            day = datetime(year, 1, 1) + timedelta(days=int(values["D"]) - 1)  # noqa: DTZ001 - zone below
            month, day_of_month = day.month, day.day
        else:
            month, day_of_month = _month(values.get("M", "1")), int(values.get("d", "1"))
        fraction = int(values.get("S", "0").ljust(6, "0")[:6])
        zone = _any_zone(values["zone"]) if "zone" in values else self._zone
        return datetime(
            *(year, month, day_of_month, _hour(values), int(values.get("m", "0"))),
            *(int(values.get("s", "0")), fraction),
            tzinfo=zone,
        )


_NUMBERS: dict[str, Callable[[datetime], int]] = {
    "d": lambda t: t.day,
    "D": lambda t: t.timetuple().tm_yday,
    "H": lambda t: t.hour,
    "k": lambda t: t.hour or 24,
    "h": lambda t: t.hour % 12 or 12,
    "K": lambda t: t.hour % 12,
    "m": lambda t: t.minute,
    "s": lambda t: t.second,
}


def _letters(letter: str, count: int, after_space: bool) -> tuple[str, _Part] | None:
    """The field that a run of one letter stands for, and its part; None for what is not supported."""
    if letter in "yu":
        return "y", _year_part(count)
    if letter in "ML":
        return "M", _month_part(count)
    if letter in _NUMBERS:
        return letter, _number_part(letter, count, after_space)
    texts = {
        "S": _Part(rf"\d{{1,{count}}}", lambda t: f"{t.microsecond:06d}".ljust(9, "0")[:count]),
        "a": _Part(r"[AP]M", lambda t: "AM" if t.hour < 12 else "PM"),
        "E": _Part(r"[A-Za-z]+", lambda t: _DAYS[t.weekday()][: 3 if count < 4 else None]),
    }
    return (letter, texts[letter]) if letter in texts else _zone_letters(letter, count)


def _year_part(count: int) -> _Part:
    if count == 2:
        return _Part(r"\d\d", lambda t: f"{t.year % 100:02d}")
    return _Part(rf"\d{{{count},9}}", lambda t: str(t.year).zfill(count))


def _number_part(letter: str, count: int, after_space: bool) -> _Part:
    value = _NUMBERS[letter]
    if letter == "d" and count == 1 and after_space:
        # syslog fills the day with a space, and runs of space are read as one.
        return _Part(r"\d\d?", lambda t: f"{t.day:2d}")
    widest = 3 if letter == "D" else 2
    return _Part(rf"\d{{{count},{widest}}}", lambda t: str(value(t)).zfill(count))


def _zone_letters(letter: str, count: int) -> tuple[str, _Part] | None:
    if letter in "Xx" or (letter == "Z" and count != 4):
        colon = (letter in "Xx" and count == 3) or (letter == "Z" and count == 5)
        short = letter in "Xx" and count == 1
        zulu = letter == "X" or (letter == "Z" and count == 5)
        return "zone", _Part(_OFFSET, lambda t: _write_offset(t, colon=colon, short=short, zulu=zulu))
    if letter in "zV":
        return "zone", _Part(r"[A-Za-z][A-Za-z0-9_/+-]*", lambda t: t.tzname() or "UTC")
    return None


def _month_part(count: int) -> _Part:
    if count <= 2:
        return _Part(r"\d\d?" if count == 1 else r"\d\d", lambda t: str(t.month).zfill(count))
    if count == 3:
        return _Part("|".join(month[:3] for month in _MONTHS), lambda t: _MONTHS[t.month - 1][:3])
    return _Part("|".join(_MONTHS), lambda t: _MONTHS[t.month - 1])


def _year(text: str | None, default: int) -> int:
    if text is None:
        return default
    return 2000 + int(text) if len(text) == 2 else int(text)


def _month(text: str) -> int:
    if text.isdigit():
        return int(text)
    return next(number for number, name in enumerate(_MONTHS, 1) if name[:3].lower() == text[:3].lower())


def _hour(values: dict[str, str]) -> int:
    if "H" in values:
        return int(values["H"])
    if "k" in values:
        return int(values["k"]) % 24
    if "h" in values or "K" in values:
        hour = int(values.get("h", values.get("K", "0"))) % 12
        return hour + 12 if values.get("a", "AM").upper() == "PM" else hour
    return 0


def _any_zone(text: str) -> tzinfo:
    if text.upper() in {"Z", "UTC", "GMT"}:
        return UTC
    return _offset(text) if text[0] in "+-" else zone_of(text)


def _offset(text: str) -> timezone:
    digits = text[1:].replace(":", "").ljust(4, "0")
    delta = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-delta if text[0] == "-" else delta)


def _write_offset(moment: datetime, *, colon: bool, short: bool, zulu: bool) -> str:
    seconds = int((moment.utcoffset() or timedelta()).total_seconds())
    if seconds == 0 and zulu:
        return "Z"
    sign, minutes = "-" if seconds < 0 else "+", abs(seconds) // 60
    if short and minutes % 60 == 0:
        return f"{sign}{minutes // 60:02d}"
    return f"{sign}{minutes // 60:02d}{':' if colon else ''}{minutes % 60:02d}"


def _spaced(literal: str) -> str:
    return r"\s+".join(re.escape(word) for word in re.split(r"\s+", literal))
