"""What every kind of input offers: records to send, and for files a look at their times before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["FileInput", "Look", "Outgoing", "Watch", "no_watch"]


class Outgoing(NamedTuple):
    """A record's value, and its key where the input has one of its own."""

    value: bytes
    key: bytes | None = None


class Watch(Protocol):
    """Called now and then while a file is read, with the records so far and the fraction of the file."""

    def __call__(self, records: int, fraction: float) -> None: ...


def no_watch(records: int, fraction: float) -> None:
    """For callers that show nothing."""


@dataclass(slots=True)
class Look:
    """Where a file lies in time, in microseconds since 1970; None when no record has a readable time."""

    records: int = 0
    timed: int = 0
    behind: int = 0  # records before the watermark that was asked about
    first: int | None = None
    last: int | None = None

    def see(self, micros: int | None, watermark: int | None) -> None:
        self.records += 1
        if micros is None:
            return
        self.timed += 1
        if watermark is not None and micros < watermark:
            self.behind += 1
        if self.first is None or micros < self.first:
            self.first = micros
        if self.last is None or micros > self.last:
            self.last = micros


class FileInput(Protocol):
    """A file of one kind, for one source of a contract."""

    too_long: list[int]
    fraction: float

    def look(self, watermark: int | None, watch: Watch) -> Look:
        """Read the whole file once for its event times; the watermark is in microseconds."""

    def records(self, shift: int) -> Iterator[Outgoing]:
        """The records, their event times moved by so many microseconds."""

    def reads_back(self, micros: int) -> bool:
        """Whether a time moved to this moment is read as this moment by the contract."""
