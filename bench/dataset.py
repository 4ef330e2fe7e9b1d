"""The records of the benchmark: a pure function of their number, so that every count can be recomputed.

Partition p holds the records whose `seq` is p modulo 4, in order; each of the 200 devices (the Kafka key) has
one partition. 5,000 records share a second of event time. One record in so many is bad: in turn out of range,
of an unknown status, or damaged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.forms import BASE_MS, DAMAGED, FORMS, Bytes, Fields, Ints, mix

__all__ = ["DEVICES", "FIRST_SEQ", "PARTITIONS", "WINDOW_MS", "Dataset", "Expected"]

PARTITIONS = 4
DEVICES = 200
RECORDS_PER_SECOND = 5_000
FIRST_SEQ = 10_000_000  # whole numbers of one width, so that all records have the same length
WINDOW_MS = 10_000
_MOST = 100_000_000 - FIRST_SEQ


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
    """`bad_every`: of so many records one is bad; 0 for none. `form`: one of bench.forms.FORMS."""

    records: int
    bad_every: int = 0
    form: str = "json"

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
        fields = Fields(
            seq=number + FIRST_SEQ,
            device=_device(number),
            since=_moment(number) - BASE_MS,
            thousandths=_reading(number),
            status=_status(number),
            flaw=self._flaw(number),
        )
        return fields.keys(), FORMS[self.form](fields)

    def expected(self, *, screened: bool = True) -> Expected:
        """Recount everything from the numbers alone. Where nothing screens, what can be read is good."""
        number = np.arange(self.records, dtype=np.int64)
        flaw = self._flaw(number)
        good = number[flaw == 0 if screened else flaw != DAMAGED]
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

    def _flaw(self, number: Ints) -> Ints:
        """Bad ones come in every partition, and each kind of them, in turn."""
        if not self.bad_every:
            return np.zeros(len(number), dtype=np.int64)
        turn = number // self.bad_every
        return np.where(number % self.bad_every == turn % PARTITIONS, turn % 3 + 1, 0)


def _moment(number: Ints) -> Ints:
    return BASE_MS + number * 1000 // RECORDS_PER_SECOND


def _device(number: Ints) -> Ints:
    """Of the partition's fifty devices one, so that a key stays in its partition."""
    step = number // PARTITIONS * 31 % (DEVICES // PARTITIONS)
    return step * PARTITIONS + number % PARTITIONS


def _reading(number: Ints) -> Ints:
    return (np.uint64(10_000) + mix(number) % np.uint64(90_000)).astype(np.int64)


def _status(number: Ints) -> Ints:
    return (mix(number) >> np.uint64(60)).astype(np.int64) % 4
