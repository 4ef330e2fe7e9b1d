"""One life of a Kafka client: what it was given, in order, and what became of each record.

kafka-python bounds neither records nor bytes that wait for the broker: this does. All of it runs in the
caller's thread. A record's fate is read off its future, oldest first, so that acknowledgements keep the
order of sending and no state is shared with the client's I/O thread.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from headgate.errors import KafkaUnavailable, NotFoundError
from headgate.settings import Settings
from headgate.topics.kafka import admin_client, client_options, ended_unless_built, unavailable_as_ours
from producers.records import Record
from producers.segments import Handed

__all__ = ["REFUSED", "Flight", "Session", "connect", "short"]

BUFFER_BYTES = 32 * 1024 * 1024
BUFFER_RECORDS = 200_000
SAMPLE_SECONDS = 0.01  # between two measured deliveries: enough for a histogram, free for a replay

PROBE_SECONDS = 2.0
UNKNOWN_TOPIC = 3
_REASON_LENGTH = 200

# Errors that say something of the record and not of the broker: sending it again changes nothing.
REFUSED = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.InvalidTimestampError,
    kafka_errors.InvalidRecordError,
)


@dataclass(slots=True)
class Flight:
    """A record on its way; `handed` when it comes from the spool."""

    record: Record
    future: Any
    size: int
    handed: Handed | None

    @property
    def error(self) -> Exception | None:
        """Why it failed, or None when it arrived; only once `future.is_done`."""
        return self.future.exception if self.future.failed() else None


class Session:
    """A connected producer. It is used until its first failure, then abandoned for a new one."""

    def __init__(
        self, producer: KafkaProducer, topic: str, *, max_request_size: int, observe: Callable[[float], None]
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._max_record = max_request_size - 512  # what Kafka adds to a single record, generously
        self._observe = observe
        self._sampled = 0.0
        self._flights: deque[Flight] = deque()
        self.waiting_bytes = 0

    @property
    def waiting(self) -> int:
        return len(self._flights)

    @property
    def has_room(self) -> bool:
        return self.waiting_bytes < BUFFER_BYTES and len(self._flights) < BUFFER_RECORDS

    def fits(self, record: Record) -> bool:
        """Whether Kafka would take it at all."""
        return record.size <= self._max_record

    def send(self, record: Record, handed: Handed | None = None) -> None:
        """Give a record to the client, which sends it when it can. Raises kafka-python's errors."""
        future = self._producer.send(
            self._topic,
            value=record.value,
            key=record.key,
            headers=list(record.headers),
            timestamp_ms=record.timestamp_ms,
        )
        now = time.monotonic()
        if now - self._sampled > SAMPLE_SECONDS:
            self._sampled = now
            future.add_callback(lambda _: self._observe(time.monotonic() - now))
        size = record.size
        self._flights.append(Flight(record, future, size, handed))
        self.waiting_bytes += size

    def landed(self) -> Iterator[Flight]:
        """The oldest records whose fate is known, in order; each is given once."""
        while self._flights and self._flights[0].future.is_done:
            yield self._pop()

    def wait(self, seconds: float) -> None:
        """Until the oldest record's fate is known, or the time is over."""
        if self._flights:
            # A failed delivery raises here what `landed` gives with its record.
            with contextlib.suppress(kafka_errors.KafkaError):
                self._flights[0].future.get(timeout=seconds)

    def abandon(self) -> list[Flight]:
        """End the client at once; every record it still had, in order, whether it arrived or not.

        A request that the broker had already received may still be carried out: such records can
        arrive twice, once now and once from the spool, with the same `headgate.id`.
        """
        # close(0) only raises while something waits, so the I/O thread is told directly.
        self._producer._sender.force_close()
        self._producer._sender.join(timeout=5.0)
        with contextlib.suppress(kafka_errors.KafkaError):
            self._producer.close(timeout=0)
        flights = []
        while self._flights:
            flights.append(self._pop())
        return flights

    def close(self) -> None:
        """End a client that has nothing on its way."""
        self._producer.close(timeout=5.0)

    def _pop(self) -> Flight:
        flight = self._flights.popleft()
        self.waiting_bytes -= flight.size
        return flight


def connect(
    settings: Settings, topic: str, *, pipeline: str, max_request_size: int, observe: Callable[[float], None]
) -> Session:
    """A session with Kafka. Raises KafkaUnavailable, and NotFoundError when the topic is not there."""
    _probe(settings)
    with admin_client(settings) as admin:
        found = admin.describe_topics([topic])
    code = found[0].get("error_code", 0) if found else UNKNOWN_TOPIC
    if code == UNKNOWN_TOPIC:
        raise NotFoundError(
            f"the topic {topic!r} of pipeline {pipeline!r} does not exist at {settings.kafka.brokers}",
            expected="a topic that was made from the contract; producers never create one",
            help=f"headgate plan {pipeline} && headgate apply {pipeline}",
        )
    if code:
        error = kafka_errors.for_code(code)
        raise KafkaUnavailable(
            f"Kafka at {settings.kafka.brokers} does not show the topic {topic!r}: {error.__name__}",
            expected="a leader for its partitions, and the right to describe and write it",
        )
    options = {**client_options(settings), **delivery_options(max_request_size)}
    with ended_unless_built() as transport, unavailable_as_ours(settings):
        producer = KafkaProducer(**options, kafka_client=transport)
        if not producer.partitions_for(topic):
            raise KafkaUnavailable(f"Kafka at {settings.kafka.brokers} has no leader for {topic!r}")
    return Session(producer, topic, max_request_size=max_request_size, observe=observe)


def _probe(settings: Settings) -> None:
    """Fail at once where no broker listens: the client itself would try until its time is over."""
    reason: OSError | None = None
    for broker in settings.kafka.brokers.split(","):
        host, _, port = broker.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()
        except OSError as error:
            reason = error
        except (ValueError, OverflowError):
            return  # an address without a port: the client knows what it means
        else:
            return
    raise KafkaUnavailable(
        f"Kafka does not answer at {settings.kafka.brokers}: {(reason and reason.strerror) or reason}",
        help="headgate up starts the embedded broker; headgate doctor shows where kafka.brokers comes from",
    )


def delivery_options(max_request_size: int) -> dict[str, Any]:
    """How records are sent. Idempotence is set and not left to its default: then a conflict raises."""
    return {
        "enable_idempotence": True,
        "acks": "all",
        "compression_type": "lz4",
        "linger_ms": 20,
        "batch_size": 262_144,
        "max_request_size": max_request_size,
        "delivery_timeout_ms": 120_000,
        "request_timeout_ms": 30_000,
        "max_block_ms": 10_000,  # only metadata is waited for; the bounded buffer is Session's
        "reconnect_backoff_max_ms": 2_000,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


def short(error: Exception | None) -> str:
    """An error's first line, for a message and for a record's header."""
    text = str(error) if error is not None else "it failed"
    return (text or type(error).__name__).splitlines()[0][:_REASON_LENGTH]
