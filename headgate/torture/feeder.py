"""Feeds the topics of a private installation while it is tortured: a chunk at a time, acknowledged.

A chunk whose acknowledgement was lost is sent again, so a topic may hold a record twice: what counts is
what the topic holds, of which each is to be found once at every sink.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kafka import KafkaProducer
from kafka.errors import KafkaError

from headgate.settings import Settings
from headgate.topics.kafka import client_options

__all__ = ["Feed", "Feeder"]

_PAUSE = 0.25
_ACKNOWLEDGED_WITHIN = 60.0


@dataclass
class Feed:
    """One topic: record `n` is `make(n)`; `total` records at least, or all there are."""

    topic: str
    partitions: int
    make: Callable[[int], bytes]
    total: int
    endless: bool
    chunk: int
    sent: list[bytes] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return len(self.sent) >= self.total

    def next(self, *, more: bool) -> Sequence[bytes]:
        """The next chunk. `more`: beyond the total, where records can be made without an end."""
        first = len(self.sent)
        last = first + self.chunk if more and self.endless else min(first + self.chunk, self.total)
        return [self.make(number) for number in range(first, last)]


class Feeder:
    """Runs on a thread of its own until `finish`, which waits until everything is acknowledged."""

    def __init__(self, settings: Settings, feeds: Sequence[Feed]) -> None:
        self._settings = settings
        self._feeds = feeds
        self._finish = threading.Event()
        self._abort = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    @property
    def sent(self) -> int:
        return sum(len(feed.sent) for feed in self._feeds)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Send what is left, without pauses, and wait. Raises what the thread ended with."""
        self._finish.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        self._abort.set()
        self._finish.set()
        if self._thread.is_alive():
            self._thread.join(_ACKNOWLEDGED_WITHIN)

    def _run(self) -> None:
        try:
            while not self._abort.is_set() and not (self._finish.is_set() and self._all_sent()):
                for feed in self._feeds:
                    self._send(feed, feed.next(more=not self._finish.is_set()))
                self._finish.wait(_PAUSE)
        except BaseException as error:  # noqa: BLE001 - handed to `finish`, in the thread that asks
            self._error = error

    def _all_sent(self) -> bool:
        return all(feed.done for feed in self._feeds)

    def _send(self, feed: Feed, values: Sequence[bytes]) -> None:
        """A producer for each chunk: one that has lived through an outage may hold records of before."""
        while values and not self._abort.is_set():
            try:
                self._deliver(feed, values)
            except (KafkaError, OSError):
                time.sleep(_PAUSE)
            else:
                feed.sent.extend(values)
                return

    def _deliver(self, feed: Feed, values: Sequence[bytes]) -> None:
        producer = KafkaProducer(**client_options(self._settings), acks="all")
        try:
            first = len(feed.sent)
            pending = [
                producer.send(feed.topic, value, partition=(first + number) % feed.partitions)
                for number, value in enumerate(values)
            ]
            for one in pending:
                one.get(timeout=_ACKNOWLEDGED_WITHIN)
        finally:
            producer.close(timeout=5)
