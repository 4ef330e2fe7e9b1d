"""The one producer behind every kind of input: it delivers, or it keeps on disk.

    live       records go to Kafka
    offline    Kafka does not answer: records go to the spool, and every few seconds it is asked again
    draining   Kafka is back: the spool is sent first, new records queue up behind it

The first delivery that fails ends the client's session. What it had not delivered goes to the spool in
the order of sending, so that order survives an outage; what the disk has no room for stays in memory
behind it, and nothing new is taken on until that is written or sent. kafka-python itself rides out
outages shorter than `delivery_timeout_ms` without a duplicate; after that, a request that was carried
out unanswered can repeat its records, which carry the same `headgate.id`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

from kafka import errors as kafka_errors

from headgate.errors import HeadgateError, NotFoundError
from producers.backlog import Backlog
from producers.counts import Counts
from producers.metrics import ProducerMetrics
from producers.records import Record
from producers.segments import Handed
from producers.session import REFUSED, Flight, Session, short
from producers.spool import Spool

__all__ = ["Producer"]

RETRY_SECONDS = 2.0
MAX_BLOCK_SECONDS = 60.0


class Producer:
    """Not for several threads; `send` takes a record on, `poll` moves things along, `close` ends it."""

    def __init__(
        self,
        connect: Callable[[], Session],
        spool: Spool,
        metrics: ProducerMetrics,
        *,
        say: Callable[[str], None],
        max_block_seconds: float = MAX_BLOCK_SECONDS,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._connect = connect
        self._spool = spool
        self._backlog = Backlog(spool)
        self._metrics = metrics
        self._say = say
        self._max_block = max_block_seconds
        self._stopped = stopped
        self._session: Session | None = None
        self._next_attempt = 0.0
        self._told = False
        self._closed = False
        self._last_sync = 0.0
        self._identity = uuid.uuid4().hex[:12]
        self._counts = Counts(found=spool.records)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(0.0)

    @property
    def counts(self) -> Counts:
        counts = self._counts
        counts.refused, counts.spooled = self._backlog.refused, self._spool.records
        counts.unsaved, counts.first_unsaved = self._backlog.unsaved()
        return counts

    @property
    def online(self) -> bool:
        return self._session is not None

    @property
    def idle(self) -> bool:
        """Nothing is on its way and nothing waits."""
        return self._spool.records == 0 and not self._at_risk

    @property
    def _at_risk(self) -> bool:
        """Something that was taken on is neither delivered nor on disk."""
        return self._backlog.in_memory > 0 or (self._session is not None and self._session.waiting > 0)

    def send(
        self, value: bytes, key: bytes | None = None, headers: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        """Take a record on: from here on it is delivered or on disk. Raises SpoolFullError if neither can."""
        identity = f"{self._identity}-{self._counts.sent}".encode()
        record = Record(value, key, int(time.time() * 1000), (("headgate.id", identity), *headers))
        if self._session is not None and not self._backlog.waits:
            self._send_live(record)
        else:
            self._backlog.keep(record)
        self._counts.sent += 1

    def poll(self) -> None:
        """Settle what has landed, ask for Kafka again when it is time, send on from the spool."""
        if self._session is not None:
            self._settle()
        if self._session is None and time.monotonic() >= self._next_attempt:
            self._try_connect()
        if self._backlog.in_memory:
            self._backlog.write()
        if self._session is not None and self._backlog.waits:
            self._drain(self._session)
        self._sync_at_times()
        self._show()

    def wait(self, seconds: float) -> None:
        """Let time pass, and less if something lands."""
        if self._session is not None and self._session.waiting:
            self._session.wait(seconds)
        else:
            time.sleep(seconds)

    def flush(self, seconds: float) -> bool:
        """Until all is delivered, the spool too; False when the time is over or a stop was asked."""
        deadline = time.monotonic() + seconds
        while True:
            self.poll()
            if self.idle:
                return True
            if time.monotonic() >= deadline or self._stopped():
                return False
            self.wait(0.1)

    def close(self, seconds: float) -> Counts:
        """Deliver what is on its way for so many seconds, and put the rest on disk. Once is enough.

        What has no room there either is counted as `unsaved`, and said.
        """
        if self._closed:
            return replace(self._counts)
        self._closed = True
        try:
            self._finish(time.monotonic() + seconds)
            self._spool.sync()
        finally:
            self._show()
            counts = replace(self._counts)
            if counts.unsaved:
                self._say(
                    f"{counts.unsaved} records that were taken on are lost, the first of them number "
                    f"{counts.first_unsaved}: Kafka did not take them, and the disk has no room for them"
                )
            self._spool.close()
        return counts

    def _finish(self, deadline: float) -> None:
        was_stopped = self._stopped()
        try:
            while self._at_risk:
                # What waits in memory goes behind the spool; otherwise the spool can stay where it is.
                if self._backlog.in_memory:
                    self.poll()
                else:
                    self._settle()
                stopped_meanwhile = self._stopped() and not was_stopped
                if not self._at_risk or stopped_meanwhile or time.monotonic() >= deadline:
                    break
                self.wait(0.1)
        finally:
            if self._session is not None and self._session.waiting:
                self._break("not all was acknowledged in time")
            elif self._session is not None:
                self._session.close()
                self._session = None

    def _send_live(self, record: Record) -> None:
        session = self._session
        if session is not None and not session.fits(record):
            self._refuse(record, f"{record.size} bytes are more than the topic takes")
            return
        self._wait_for_room()
        if self._session is None:
            self._backlog.keep(record)
            return
        try:
            self._session.send(record)
        except kafka_errors.KafkaError as error:
            self._break(short(error))
            self._backlog.keep(record)

    def _wait_for_room(self) -> None:
        deadline = time.monotonic() + self._max_block
        while (session := self._session) is not None and not session.has_room:
            self._settle()
            if self._session is None or session.has_room:
                return
            if time.monotonic() >= deadline or self._stopped():
                self._break(f"the buffer has been full for {self._max_block:.0f} s")
                return
            session.wait(0.1)

    def _settle(self) -> None:
        session = self._session
        if session is None:
            return
        for flight in session.landed():
            if not self._account(flight):
                self._break(short(flight.error), first=flight)
                return

    def _account(self, flight: Flight) -> bool:
        """Count a record that has landed; False when it failed for a reason that is not its own."""
        error = flight.error
        if error is None:
            self._counts.delivered += 1
            if flight.handed is not None:
                self._counts.resent += 1
                self._spool.acknowledge(flight.handed)
            return True
        if isinstance(error, REFUSED):
            self._refuse(flight.record, short(error), flight.handed)
            return True
        return False

    def _break(self, reason: str, first: Flight | None = None, unsent: Sequence[Record] = ()) -> None:
        """End the session; what did not arrive waits on disk, in order."""
        session, self._session = self._session, None
        if session is None:
            return
        left = [first] if first is not None else []
        for flight in session.abandon():
            if not (flight.future.is_done and self._account(flight)):
                left.append(flight)
        self._spool.rewind()
        fresh = [*(flight.record for flight in left if flight.handed is None), *unsent]
        self._backlog.put_back(fresh)
        self._next_attempt = time.monotonic() + RETRY_SECONDS
        if not self._stopped() or fresh:
            self._say(f"delivery was interrupted ({reason}); {self._spool.records} records wait in the spool")
        if self._backlog.in_memory:
            self._say(f"{self._backlog.in_memory} records wait in memory: {self._backlog.full}")
        self._told = True
        self._spool.sync()

    # -- offline ----------------------------------------------------------------------------------

    def _refuse(self, record: Record, reason: str, handed: Handed | None = None) -> None:
        path = self._backlog.refuse(record, reason, handed)
        if path is None and self._backlog.in_memory == 1:
            self._say(f"Kafka refuses a record for good: {reason}; it waits for room: {self._backlog.full}")
        elif path is not None and self._backlog.refused in {1, 10, 100, 1000}:
            self._say(f"Kafka refuses a record for good: {reason}; kept in {path}")

    def _try_connect(self) -> None:
        try:
            self._session = self._connect()
        except HeadgateError as error:
            if isinstance(error, NotFoundError):
                raise
            self._next_attempt = time.monotonic() + RETRY_SECONDS
            if not self._told:
                self._say(f"{error}\nwaiting for it; records go to the spool {self._spool.folder} until then")
                self._told = True
            return
        if self._told:
            self._say(f"Kafka answers again; {self._spool.records} records of the spool go first")
            self._told = False

    def _drain(self, session: Session) -> None:
        for _ in range(5000):  # in portions, so that new records and signals get their turn
            if not session.has_room:
                return
            handed = self._spool.take()
            record = handed.record if handed is not None else self._backlog.next_unwritten()
            if record is None:
                return
            if not session.fits(record):
                self._refuse(record, f"{record.size} bytes are more than the topic takes", handed)
                continue
            try:
                session.send(record, handed)
            except kafka_errors.KafkaError as error:
                self._break(short(error), unsent=[record] if handed is None else [])
                return

    def _sync_at_times(self) -> None:
        now = time.monotonic()
        if now - self._last_sync >= 0.5:
            self._last_sync = now
            self._spool.sync()

    def _show(self) -> None:
        waiting = self._session.waiting_bytes if self._session is not None else 0
        self._metrics.show(self.counts, waiting, spooled=self._backlog.spooled)
