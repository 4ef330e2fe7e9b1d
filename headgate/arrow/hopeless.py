"""Records of which it can be proved, without Spark, that they are not what the contract describes.

For these the JVM lane has the one reason `_parse`. What is not proved is left to Spark: it costs a job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

from headgate.contract.model import Source

__all__ = ["Hopeless"]

_SPACE = b" \t\r\n"
_DAY = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_EPOCH = date(1970, 1, 1)
_DAY_LENGTH = 86_400_000_000  # microseconds
_SLACK = timedelta(days=2)  # more than zones can move a date
_FAR = 250_000_000_000_000_000  # microseconds: the year 9892
_DIGITS = 50  # of a number that is looked at
_DEEP = 200  # levels; Python's parser goes down by calls


class _Whole(str):
    """A whole number as it was written."""


class _Fraction(str):
    """A number with a fraction or an exponent as it was written."""


class _NotJson(Exception):
    """Python's parser reads it, JSON does not have it."""


class Hopeless:
    """Judges the values of one source."""

    def __init__(self, source: Source) -> None:
        self._wrong = {c.name: _WRONG[c.type] for c in source.columns if c.type in _WRONG}
        event_time = source.event_time
        self._dated: bool | None = None  # None: no event time that could lie in the future
        if event_time is not None and not event_time.arrival:
            column = next(c for c in source.columns if c.name == event_time.column)
            self._dated = column.format is None

    def is_parse(self, value: bytes | None, bound: int) -> bool:
        """Whether `_parse` is surely the only reason. `bound`: the last moment, in microseconds, that is not
        in the future; of a record that Spark reads in part the event time is looked at, too."""
        if value is None:
            return True
        if self._dated is not None and not self._cannot_be_ahead(value, bound):
            return False
        if not value.strip(_SPACE).startswith(b"{"):
            return True
        if value.count(b"[") + value.count(b"{") > _DEEP:
            return False
        try:
            fields = _DECODER.decode(value.decode("utf-8"))
        except (ValueError, _NotJson):  # UnicodeDecodeError is a ValueError, too
            return True
        return self._has_wrong_type(fields)

    def _cannot_be_ahead(self, value: bytes, bound: int) -> bool:
        """Whether no text in it is a date as late as the bound; what an escape stands for is not known."""
        if not self._dated or b"\\" in value or not 0 <= bound <= _FAR:
            return False
        latest = _day_before(bound // _DAY_LENGTH)
        return all(day < latest for day in _DAY.findall(value))

    def _has_wrong_type(self, fields: Sequence[tuple[str, Any]]) -> bool:
        names = [name for name, _ in fields]
        for name, value in fields:
            wrong = self._wrong.get(name)
            if wrong is not None and names.count(name) == 1 and wrong(value):
                return True
        return False


@lru_cache(maxsize=16)
def _day_before(day: int) -> bytes:
    """A day, and as many more as zones can move it, before one that is counted from the epoch's."""
    return (_EPOCH + timedelta(days=day) - _SLACK).isoformat().encode()


def _refuse(text: str) -> Any:
    raise _NotJson(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=_Whole, parse_float=_Fraction, parse_constant=_refuse
)


def _not_boolean(value: Any) -> bool:
    return value is not None and not isinstance(value, bool)


def _not_number(value: Any) -> bool:
    return value is not None and not isinstance(value, _Whole | _Fraction)


def _not_whole(bits: int) -> Callable[[Any], bool]:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def wrong(value: Any) -> bool:
        if not isinstance(value, _Whole):
            return value is not None
        return len(value) <= _DIGITS and not low <= int(value) <= high

    return wrong


# What Spark surely refuses for a column of this type. All others are read as text, which takes any value.
_WRONG: Mapping[str, Callable[[Any], bool]] = {
    "boolean": _not_boolean,
    "int": _not_whole(32),
    "long": _not_whole(64),
    "float": _not_number,
    "double": _not_number,
}
