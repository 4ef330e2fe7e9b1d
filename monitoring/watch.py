"""Reading sources in the background, so that nobody who asks ever waits for a service that hangs.

Each source has a thread of its own. What it read last is kept with its moment; a read that failed, or
that has been under way for longer than its timeout, makes the source *down*: its value is then None and
everything that was computed from it is shown as unknown. An old value is never shown as a present one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from monitoring.snapshot import SourceHealth

__all__ = ["Reading", "Source", "Watcher"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


def _nothing() -> None:
    """For a source that holds nothing open."""


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What a source gave. `problems` are parts it could not read, while the rest is good."""

    value: T
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """One thing to look at: `read` may block up to `timeout` seconds and may raise; `close` comes after the
    last read, in the same thread."""

    name: str
    read: Callable[[], Reading[T]]
    period: float
    timeout: float
    close: Callable[[], None] = _nothing


@dataclass(frozen=True, slots=True)
class _Last(Generic[T]):
    reading: Reading[T] | None = None
    error: str = "not read yet"
    succeeded_at: float | None = None
    finished_at: float | None = None
    seconds: float = 0.0


class Watcher(Generic[T]):
    """Keeps the newest reading of one source. A watcher that is stopped at once has read one time."""

    def __init__(self, source: Source[T]) -> None:
        self.source = source
        self._last: _Last[T] = _Last()
        self._began: float | None = None  # monotonic; None between two reads
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"watch-{source.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; one that hangs in a read is left behind (it is a daemon)."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        self._thread.join(max(seconds, 0))

    def read_once(self) -> None:
        self._began = began = time.monotonic()
        before = self._last
        try:
            reading = self.source.read()
        except Exception as error:  # noqa: BLE001 - whatever a source raises becomes its health, below
            self._last = self._failed(before, error, time.monotonic() - began)
        else:
            now = time.time()
            error_text = "; ".join(reading.problems)
            self._last = _Last(reading, error_text, now, now, time.monotonic() - began)
        finally:
            self._began = None
        self._tell_change(before.error, self._last.error)

    def value(self) -> T | None:
        """The newest value, or None while the source is down."""
        last = self._last
        return last.reading.value if last.reading is not None and not self._overdue() else None

    def finished_at(self) -> float | None:
        """When a read last ended, whatever came of it: the sign of life of the exporter's own loop."""
        return self._last.finished_at

    def health(self) -> SourceHealth:
        last = self._last
        name, timeout = self.source.name, self.source.timeout
        if self._overdue():
            return SourceHealth(name, False, last.succeeded_at, timeout, f"no answer for {timeout:g} s")
        return SourceHealth(name, not last.error, last.succeeded_at, last.seconds, last.error)

    def _overdue(self) -> bool:
        began = self._began
        return began is not None and time.monotonic() - began > self.source.timeout

    def _failed(self, before: _Last[T], error: Exception, seconds: float) -> _Last[T]:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        return _Last(None, text, before.succeeded_at, time.time(), seconds)

    def _tell_change(self, before: str, after: str) -> None:
        # Once per change: a service that is away for an hour is one line, not a thousand.
        if after and after != before:
            _log.warning("source %s: %s", self.source.name, after)
        elif before and not after:
            _log.info("source %s answers", self.source.name)

    def _loop(self) -> None:
        try:
            self.read_once()
            while not self._stop.wait(self.source.period):
                self.read_once()
        finally:
            self.source.close()
