"""Records made from a contract: of its types and formats, mostly good, some bad in every way there is.

Pure: record `n` of a seed is always the same. Event times go forward, a little out of order, by so much
less than the watermark that no record can come too late, however a stream is interrupted; they come ever
slower, so that none is ever in the future.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from headgate.contract.model import Column, Contract, Source, seconds
from headgate.errors import RefusedError
from headgate.formats.encode import encoder
from headgate.torture.texts import Sampler
from producers.encoding import enum_names, times_of
from producers.values import column_values, written_time

__all__ = ["BAD_SHARE", "SourceRecords", "in_its_format", "refuse_unmakeable"]

BAD_SHARE = 0.06
_LEAST_WATERMARK = 1.0
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_QUOTED = re.compile(r"'((?:[^']|'')*)'")
_WORDS = ("north", "south", "alpha", "beta", "ünïcode", "a b", "x", "0", "INFO", "WARN", "ERROR")
_NO_RECORD = (b"", b"{", b"[1]", b"\xff\xfe\x00", b"null", b"{}", b'{"a": 1}{"a": 2}', b"not a record at all")


def refuse_unmakeable(contract: Contract) -> None:
    """Raises RefusedError for a contract whose records nobody can make up."""
    for name, source in contract.sources.items():
        stopping = [rule.name for rule in source.rules if rule.otherwise == "fail"]
        if stopping:
            raise RefusedError(
                f"source {name} has rules that stop the stream: {', '.join(stopping)}",
                expected="records that keep them, which cannot be made up from a rule",
                help="give some: headgate torture PIPELINE --from-file FILE",
            )
        if source.event_time is not None and seconds(source.event_time.watermark) < _LEAST_WATERMARK:
            raise RefusedError(
                f"source {name} has a watermark of {source.event_time.watermark}",
                expected=f"at least {_LEAST_WATERMARK:g} second, within which records can be out of order",
                help="give records in order: headgate torture PIPELINE --from-file FILE",
            )


def in_its_format(source: Source, make: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """The same records as the source reads them. What does not fit its schema stays what it is: a bad one."""
    if not source.with_schema:
        return make
    encode = encoder(source, times_of(source))

    def made(number: int) -> bytes:
        value = make(number)
        try:
            record = json.loads(value)
            return encode(record) if isinstance(record, dict) else value
        except ValueError:
            return value

    return made


@dataclass(frozen=True, slots=True)
class SourceRecords:
    """Makes the records of one source; `pace` is after how many the event time has gone half its way."""

    source: Source
    seed: str
    pace: int
    now: datetime

    def make(self, number: int) -> bytes:
        chance = random.Random(f"{self.seed}/{number}")
        if chance.random() < BAD_SHARE:
            return self._bad(chance, number)
        if self.source.format == "text":
            return self._line(chance, number).encode()
        return json.dumps(self._record(chance, number), ensure_ascii=False).encode()

    def _bad(self, chance: random.Random, number: int) -> bytes:
        if self.source.format == "text" or chance.random() < 0.4:
            return chance.choice(_NO_RECORD)
        record = self._record(chance, number)
        column = chance.choice(self.source.columns)
        spoiled: tuple[Any, ...] = (None, "nonsense", [1], {"x": 1}, "9999-12-31 00:00:00")
        record[column.name] = chance.choice(spoiled)
        return json.dumps(record).encode()

    def _record(self, chance: random.Random, number: int) -> dict[str, Any]:
        record: dict[str, Any] = {}
        for column in self.source.columns:
            if not column.required and column.name != self._timed and chance.random() < 0.05:
                continue
            record[column.name] = self._value(column, chance, number)
        return record

    def _line(self, chance: random.Random, number: int) -> str:
        groups = {
            column.name: str(self._value(column, chance, number))
            for column in self.source.columns
            if column.type != "string"
        }
        if self.source.pattern:
            return Sampler(self.source.pattern, groups).sample(chance)
        return next(iter(groups.values()), chance.choice(_WORDS))

    @property
    def _timed(self) -> str | None:
        return self.source.event_time.column if self.source.event_time is not None else None

    def _value(self, column: Column, chance: random.Random, number: int) -> Any:
        moment = self.moment(number, chance.random())
        if column.type in ("timestamp", "date"):
            return written_time(column, moment)
        if (names := enum_names(self.source).get(column.name)) is not None:
            return chance.choice(names)
        make = _VALUES.get(column.type.partition("(")[0])
        if make is None:
            return column_values(column, chance)(moment)
        return make(chance, _hints(self.source, column.name))

    def moment(self, number: int, jitter: float) -> datetime:
        """The event time of a record: `jitter` in [0, 1) puts it back by up to a quarter of the watermark."""
        watermark = seconds(self.source.event_time.watermark) if self.source.event_time is not None else 60.0
        span = 6 * watermark
        gone = number / (number + self.pace)
        at = self.now - timedelta(seconds=span * (1 - gone) + 60 + jitter * watermark / 4)
        # Few different times, so that groups by time hold several records.
        return at.astimezone(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class _Hints:
    """Numbers and words that rules compare a column with: values on both sides of them are tried."""

    numbers: tuple[float, ...]
    words: tuple[str, ...]


def _hints(source: Source, column: str) -> _Hints:
    named = re.compile(rf"\b{re.escape(column)}\b")
    texts = [rule.expect for rule in source.rules if named.search(rule.expect)]
    words = tuple(word for text in texts for word in _QUOTED.findall(text))
    numbers = tuple(float(n) for text in texts for n in _NUMBER.findall(_QUOTED.sub("", text)))
    return _Hints(tuple(sorted(set(numbers))), words)


def _whole(chance: random.Random, hints: _Hints) -> int:
    return round(_number(chance, hints))


def _number(chance: random.Random, hints: _Hints) -> float:
    low, high = (hints.numbers[0], hints.numbers[-1]) if hints.numbers else (0.0, 1000.0)
    if low == high:
        high = low + 1000.0
    edge = chance.random()
    if edge < 0.03:
        return chance.choice((low, high, low - 1, high + 1))
    if edge < 0.05:
        return low - chance.uniform(0, high - low) * 0.1 - 1
    return round(chance.uniform(low, min(high, low + 2e9)), 3)


def _word(chance: random.Random, hints: _Hints) -> str:
    if hints.words and chance.random() < 0.9:
        return chance.choice(hints.words)
    return chance.choice(_WORDS)


def _decimal(chance: random.Random, hints: _Hints) -> float:
    return round(_number(chance, hints), 1)


_VALUES: Mapping[str, Callable[[random.Random, _Hints], Any]] = {
    "string": _word,
    "int": _whole,
    "long": _whole,
    "float": _number,
    "double": _number,
    "decimal": _decimal,
}
