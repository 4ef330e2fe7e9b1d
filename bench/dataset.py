"""The records of the benchmark: a pure function of their number, so that every count can be recomputed.

Partition p holds the records whose `seq` is p modulo 4, in order; each of the 200 devices (the Kafka
key) has one partition. 5,000 records share a second of event time. With bad records, one in 10,000 is
out of range, has an unknown status or is cut short, in turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BAD_EVERY", "PARTITIONS", "VALUE_BYTES", "Dataset", "Expected"]

PARTITIONS = 4
DEVICES = 200
RECORDS_PER_SECOND = 5_000
BAD_EVERY = 10_000
FIRST_SEQ = 10_000_000  # whole numbers of one width, so that all records have the same length
BASE_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
WINDOW_MS = 10_000
_TEMPLATE = b'{"seq":00000000,"device":"d-000","ts":"2026-01-01T00:00:00.000","value":00.000,"status":0}'
VALUE_BYTES = len(_TEMPLATE)
_VALUE_AT = _TEMPLATE.index(b'"value":') + len(b'"value":')
_MOST = 24 * 3600 * RECORDS_PER_SECOND  # one day of event time

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a correct job must have written: good records, and counts by (window start in ms, device)."""

    good: int
    bad: int
    sum_of_seq: int
    windows: dict[tuple[int, int], int]
    newest_ms: int


@dataclass(frozen=True, slots=True)
class Dataset:
    records: int
    bad: bool = False

    def __post_init__(self) -> None:
        if self.records % PARTITIONS or not 0 < self.records <= _MOST:
            raise ValueError(f"the number of records must be a multiple of {PARTITIONS}, at most {_MOST}")

    @property
    def per_partition(self) -> int:
        return self.records // PARTITIONS

    def numbers(self, partition: int, start: int, stop: int) -> Ints:
        """The record numbers of a stretch of one partition."""
        return np.arange(start, stop, dtype=np.int64) * PARTITIONS + partition

    def values(self, partition: int, start: int, stop: int) -> tuple[Bytes, Bytes]:
        """Keys and values of a stretch of one partition, one row each."""
        number = self.numbers(partition, start, stop)
        rows = np.tile(np.frombuffer(_TEMPLATE, dtype=np.uint8), (len(number), 1))
        _digits(rows, _TEMPLATE.index(b"00000000"), 8, number + FIRST_SEQ)
        device = _device(number)
        _digits(rows, _TEMPLATE.index(b"d-000") + 2, 3, device)
        self._time(rows, number)
        thousandths, status = _reading(number), _status(number)
        place = _VALUE_AT
        _digits(rows, place, 2, thousandths // 1000)
        _digits(rows, place + 3, 3, thousandths % 1000)
        rows[:, -2] = status + ord("0")
        if self.bad:
            self._spoil(rows, number)
        keys = rows[:, _TEMPLATE.index(b"d-000") :][:, :5].copy()
        return keys, rows

    def expected(self) -> Expected:
        """Recount everything from the numbers alone."""
        number = np.arange(self.records, dtype=np.int64)
        good = number[~_is_bad(number)] if self.bad else number
        window = _moment(good) // WINDOW_MS
        pair, count = np.unique(window * 1000 + _device(good), return_counts=True)
        windows = {
            (int(p) // 1000 * WINDOW_MS, int(p) % 1000): int(c) for p, c in zip(pair, count, strict=True)
        }
        return Expected(
            good=len(good),
            bad=self.records - len(good),
            sum_of_seq=int((good + FIRST_SEQ).sum()),
            windows=windows,
            newest_ms=int(_moment(good).max()),
        )

    def _time(self, rows: Bytes, number: Ints) -> None:
        since = _moment(number) - BASE_MS
        place = _TEMPLATE.index(b"T00:00:00.000") + 1
        for offset, width, part in (
            (0, 2, since // 3_600_000),
            (3, 2, since // 60_000 % 60),
            (6, 2, since // 1000 % 60),
            (9, 3, since % 1000),
        ):
            _digits(rows, place + offset, width, part)

    def _spoil(self, rows: Bytes, number: Ints) -> None:
        bad = _is_bad(number)
        kind = number // BAD_EVERY % 3
        place = _VALUE_AT
        rows[bad & (kind == 0), place : place + 6] = np.frombuffer(b"-1.000", dtype=np.uint8)
        rows[bad & (kind == 1), -2] = ord("9")
        rows[bad & (kind == 2), -1] = ord(" ")


def _is_bad(number: Ints) -> Any:
    """In every partition, in turn."""
    return number % BAD_EVERY == number // BAD_EVERY % PARTITIONS


def _moment(number: Ints) -> Ints:
    return BASE_MS + number * 1000 // RECORDS_PER_SECOND


def _device(number: Ints) -> Ints:
    """Of the partition's fifty devices one, so that a key stays in its partition."""
    step = number // PARTITIONS * 31 % (DEVICES // PARTITIONS)
    return step * PARTITIONS + number % PARTITIONS


def _mix(number: Ints) -> npt.NDArray[np.uint64]:
    """Even bits from a counter, so that values do not compress better than real ones would."""
    x = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(29)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    return x ^ (x >> np.uint64(32))


def _reading(number: Ints) -> Ints:
    return (np.uint64(10_000) + _mix(number) % np.uint64(90_000)).astype(np.int64)


def _status(number: Ints) -> Bytes:
    return (_mix(number) >> np.uint64(60)).astype(np.uint8) % 4


def _digits(rows: Bytes, place: int, width: int, number: Ints) -> None:
    for i in range(width):
        rows[:, place + width - 1 - i] = number // 10**i % 10 + ord("0")
