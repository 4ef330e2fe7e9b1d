"""The one producer behind every kind of input: it delivers, or it keeps on disk.

    live       records go to Kafka
    offline    Kafka does not answer: records go to the spool, and every few seconds it is asked again
    draining   Kafka is back: the spool is sent first, new records queue up behind it

The first delivery that fails ends the client's session. What it had not delivered goes to the spool in
the order of sending, so that order survives an outage. kafka-python itself rides out outages shorter
than `delivery_timeout_ms` without a duplicate; after that, a request that was carried out unanswered
can repeat its records, which carry the same `headgate.id`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from kafka import errors as kafka_errors

from headgate.errors import HeadgateError, NotFoundError
from producers.metrics import ProducerMetrics
from producers.records import Record
from producers.session import REFUSED, Flight, Session
from producers.spool import Spool

__all__ = ["Counts", "Producer"]

RETRY_SECONDS = 2.0
MAX_BLOCK_SECONDS = 60.0
_REASON_LENGTH = 200


@dataclass(slots=True)
class Counts:
    """What became of records. found + sent = delivered + refused + spooled, once nothing is on its way."""

    found: int = 0  # were in the spool when it began
    sent: int = 0  # taken on
    delivered: int = 0  # acknowledged by the broker
    resent: int = 0  # of these, from the spool
    refused: int = 0  # Kafka never takes them; kept apart
    spooled: int = 0  # in the spool now


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
        self._counts.spooled = self._spool.records
        return self._counts

    @property
    def online(self) -> bool:
        return self._session is not None

    @property
    def idle(self) -> bool:
        """Nothing is on its way and nothing waits on disk."""
        return self._spool.records == 0 and (self._session is None or self._session.waiting == 0)

    def send(
        self, value: bytes, key: bytes | None = None, headers: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        """Take a record on: from here on it is delivered or on disk. Raises SpoolFullError if neither can."""
        identity = f"{self._identity}-{self._counts.sent}".encode()
        record = Record(value, key, int(time.time() * 1000), (("headgate.id", identity), *headers))
        if self._session is not None and self._spool.unread == 0:
            self._send_live(record)
        else:
            self._keep([record])
        self._counts.sent += 1

    def poll(self) -> None:
        """Settle what has landed, ask for Kafka again when it is time, send on from the spool."""
        if self._session is not None:
            self._settle()
        if self._session is None and time.monotonic() >= self._next_attempt:
            self._try_connect()
        if self._session is not None and self._spool.unread > 0:
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
        """Deliver what is on its way for so many seconds, and put the rest on disk. Once is enough."""
        if self._closed:
            return replace(self._counts)
        self._closed = True
        deadline = time.monotonic() + seconds
        while self._session is not None and self._session.waiting:
            self._settle()
            if self._session is None or time.monotonic() >= deadline:
                break
            self._session.wait(0.1)
        if self._session is not None:
            if self._session.waiting:
                self._break("not all was acknowledged in time")
            else:
                self._session.close()
                self._session = None
        self._spool.sync()
        self._show()
        self._spool.close()
        return replace(self._counts)

    # -- live -------------------------------------------------------------------------------------

    def _send_live(self, record: Record) -> None:
        session = self._session
        if session is not None and not session.fits(record):
            self._refuse(record, f"{record.size} bytes are more than the topic takes")
            return
        self._wait_for_room()
        if self._session is None:
            self._keep([record])
            return
        try:
            self._session.send(record)
        except kafka_errors.KafkaError as error:
            self._break(_text(error))
            self._keep([record])

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
                self._break(_text(flight.error), first=flight)
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
            self._refuse(flight.record, _text(error))
            if flight.handed is not None:
                self._spool.acknowledge(flight.handed)
            return True
        return False

    def _break(self, reason: str, first: Flight | None = None) -> None:
        """End the session; what did not arrive waits on disk, in order."""
        session, self._session = self._session, None
        if session is None:
            return
        left = [first] if first is not None else []
        for flight in session.abandon():
            if not (flight.future.is_done and self._account(flight)):
                left.append(flight)
        self._spool.rewind()
        fresh = [flight.record for flight in left if flight.handed is None]
        self._spool.append(fresh, beyond_limit=True)
        self._spool.sync()
        self._metrics.count("spooled", len(fresh))
        self._next_attempt = time.monotonic() + RETRY_SECONDS
        if not self._stopped() or fresh:
            self._say(f"delivery was interrupted ({reason}); {self._spool.records} records wait in the spool")
        self._told = True

    # -- offline ----------------------------------------------------------------------------------

    def _keep(self, records: list[Record]) -> None:
        self._spool.append(records)
        self._metrics.count("spooled", len(records))

    def _refuse(self, record: Record, reason: str) -> None:
        path = self._spool.refuse(record, reason[:_REASON_LENGTH])
        self._counts.refused += 1
        self._metrics.count("refused", 1)
        if self._counts.refused in {1, 10, 100, 1000}:
            self._say(f"Kafka refuses a record for good: {reason}; kept in {path}")

    def _try_connect(self) -> None:
        try:
            self._session = self._connect()
        except NotFoundError:
            self._spool.sync()
            raise
        except HeadgateError as error:
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
            if not session.has_room or (handed := self._spool.take()) is None:
                return
            if not session.fits(handed.record):
                self._refuse(handed.record, f"{handed.record.size} bytes are more than the topic takes")
                self._spool.acknowledge(handed)
                continue
            try:
                session.send(handed.record, handed)
            except kafka_errors.KafkaError as error:
                self._break(_text(error))
                return

    def _sync_at_times(self) -> None:
        now = time.monotonic()
        if now - self._last_sync >= 0.5:
            self._last_sync = now
            self._spool.sync()

    def _show(self) -> None:
        session = self._session
        self._metrics.show(self.counts, session.waiting_bytes if session is not None else 0)


def _text(error: Exception | None) -> str:
    text = str(error) if error is not None else "it failed"
    return (text or type(error).__name__).splitlines()[0][:_REASON_LENGTH]
