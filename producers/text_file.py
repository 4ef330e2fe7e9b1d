"""A text file of any size, one record a line: the bytes go as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from headgate.contract.model import Column, Source
from producers.event_times import LineTimes, group_reader
from producers.files import FileReader
from producers.inputs import Look, Outgoing, Watch

__all__ = ["TextFile"]

WATCH_EVERY = 20_000
TELL_EVERY = 100  # records that are sent may be few in a second


class TextFile:
    """Lines of a log. `key` names a group of the contract's pattern whose text becomes the record's key."""

    def __init__(
        self, path: Path, source: Source, column: Column | None, *, max_line: int, key: str | None
    ) -> None:
        self.path = path
        self.max_line = max_line
        self.too_long: list[int] = []
        self.fraction = 0.0
        self._times = LineTimes(source, column) if column is not None else None
        self._keys = group_reader(source, key) if key is not None else None

    def look(self, watermark: int | None, watch: Watch) -> Look:
        look = Look()
        with FileReader(self.path, self.max_line) as reader:
            for line in reader:
                look.see(self._times.micros(line) if self._times else None, watermark)
                if look.records % WATCH_EVERY == 0:
                    watch(look.records, reader.fraction)
        return look

    def records(self, shift: int) -> Iterator[Outgoing]:
        with FileReader(self.path, self.max_line) as reader:
            self.too_long = reader.too_long
            for number, line in enumerate(reader):
                if number % TELL_EVERY == 0:
                    self.fraction = reader.fraction
                value = self._times.shift(line, shift) if shift and self._times else line
                yield Outgoing(value, self._keys(line) if self._keys else None)
        self.fraction = 1.0

    def reads_back(self, micros: int) -> bool:
        return self._times is not None and self._times.reads_back(micros)
