from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
from kafka import errors as kafka_errors

from headgate.errors import KafkaUnavailable, NotFoundError
from producers import core, segments
from producers.core import Producer
from producers.inputs import Outgoing
from producers.metrics import ProducerMetrics
from producers.records import Framed, Record, frame, frames
from producers.run import Order, Stop, deliver, shortfall
from producers.segments import Handed
from producers.session import Flight, Session
from producers.spool import Spool, SpoolFullError
from tests.helpers.full_disk import Disk

LINE = len(frame(Record(b"0000", None, 0, (("headgate.id", b"0123456789ab-1000"),))))


class Future:
    """A record's fate as kafka-python tells it."""

    def __init__(self) -> None:
        self.is_done = False
        self.exception: Exception | None = None

    def failed(self) -> bool:
        return self.exception is not None


@dataclass
class Kafka:
    """A broker in memory: records wait in a session until it answers, and `arrived` is what it has."""

    up: bool = True
    answers: bool = True
    room: int = 10_000
    longest: int = 1000
    arrived: list[bytes] = field(default_factory=list)
    refuses: set[bytes] = field(default_factory=set)
    missing: bool = False

    def connect(self) -> Session:
        if self.missing:
            raise NotFoundError("the topic does not exist")
        if not self.up:
            raise KafkaUnavailable("Kafka does not answer")
        return Connected(self)


class Connected(Session):
    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._sent: list[Flight] = []
        self.waiting_bytes = 0

    @property
    def waiting(self) -> int:
        return len(self._sent)

    @property
    def has_room(self) -> bool:
        return len(self._sent) < self._kafka.room

    def fits(self, record: Record) -> bool:
        return len(record.value) <= self._kafka.longest

    def send(self, record: Record, handed: Handed | None = None) -> None:
        self._sent.append(Flight(record, Future(), 1, handed))

    def landed(self) -> Iterator[Flight]:
        for flight in list(self._sent):
            if not self._kafka.up:
                flight.future.exception = kafka_errors.KafkaTimeoutError("too late")
            elif not self._kafka.answers:
                return
            elif flight.record.value in self._kafka.refuses:
                flight.future.exception = kafka_errors.InvalidRecordError("no")
            else:
                self._kafka.arrived.append(flight.record.value)
            flight.future.is_done = True
            self._sent.remove(flight)
            yield flight

    def wait(self, seconds: float) -> None:
        """Nothing lands by waiting."""

    def abandon(self) -> list[Flight]:
        flights, self._sent = self._sent, []
        return flights

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(segments, "FileIO", disk.opened)
    monkeypatch.setattr(core, "RETRY_SECONDS", 0.0)
    return disk


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def made(tmp_path: Path, kafka: Kafka, said: list[str], disk: Disk) -> Callable[[], Producer]:
    def make() -> Producer:
        spool = Spool(tmp_path / "spool", report=said.append)
        return Producer(kafka.connect, spool, ProducerMetrics("p"), say=said.append)

    return make


def lines(numbers: range) -> list[bytes]:
    return [b"%04d" % number for number in numbers]


def send(producer: Producer, numbers: range) -> None:
    for line in lines(numbers):
        producer.send(line)


def order(numbers: Iterator[int] | range, *, endless: bool = False, file: bool = True) -> Order:
    records = (Outgoing(b"%04d" % number) for number in numbers)
    fraction = (lambda: 0.5) if file else None
    return Order("p", records, None, endless, key=None, fraction=fraction)


def test_what_was_on_its_way_when_the_disk_filled_up_is_delivered_later_in_its_order(
    made: Callable[[], Producer], kafka: Kafka, disk: Disk, said: list[str]
) -> None:
    with made() as producer:
        producer.poll()
        send(producer, range(1000))
        kafka.up, disk.room = False, 65 * LINE
        producer.poll()
        counts = producer.counts
        assert (counts.sent, counts.delivered) == (1000, 0)
        assert 0 < counts.spooled < 70
        assert counts.unsaved == 1000 - counts.spooled
        assert counts.first_unsaved == counts.spooled + 1
        assert any("wait in memory: the spool" in line for line in said)
        with pytest.raises(SpoolFullError):
            producer.send(b"new")
        kafka.up = True
        assert producer.flush(10)
        send(producer, range(1000, 1010))
        assert producer.flush(10)
        counts = producer.close(0)
    assert kafka.arrived == lines(range(1010))
    assert (counts.sent, counts.delivered, counts.spooled, counts.unsaved) == (1010, 1010, 0, 0)


def test_room_on_the_disk_takes_what_waits_in_memory_before_anything_new(
    made: Callable[[], Producer], kafka: Kafka, disk: Disk
) -> None:
    with made() as producer:
        producer.poll()
        send(producer, range(20))
        kafka.up, disk.room = False, 0
        producer.poll()
        assert (producer.counts.spooled, producer.counts.unsaved) == (0, 20)
        disk.room = None
        send(producer, range(20, 25))
        assert (producer.counts.spooled, producer.counts.unsaved) == (25, 0)
        metrics = producer._metrics.registry
        producer.poll()
        labels = {"pipeline": "p", "outcome": "spooled"}
        assert metrics.get_sample_value("headgate_producer_records_total", labels) == 25
    kafka.up = True
    with made() as producer:
        assert producer.flush(10)
    assert kafka.arrived == lines(range(25))


def test_a_second_outage_keeps_the_order_of_what_is_in_memory(
    made: Callable[[], Producer], kafka: Kafka, disk: Disk
) -> None:
    with made() as producer:
        producer.poll()
        send(producer, range(50))
        kafka.up, disk.room = False, 10 * LINE
        producer.poll()
        kafka.up, kafka.answers, kafka.room = True, False, 30
        producer.poll()  # some are sent again, from disk and from memory
        kafka.up = False
        producer.poll()
        assert producer.counts.unsaved + producer.counts.spooled == 50
        kafka.up, kafka.answers = True, True
        assert producer.flush(10)
    assert kafka.arrived == lines(range(50))


def test_an_end_with_records_in_memory_says_exactly_how_many_and_from_where(
    made: Callable[[], Producer], kafka: Kafka, disk: Disk, said: list[str]
) -> None:
    producer = made()
    producer.poll()
    send(producer, range(10))
    producer.poll()
    send(producer, range(10, 100))
    kafka.up, disk.room = False, 20 * LINE
    counts = producer.close(0)
    assert counts.delivered == 10
    assert counts.unsaved == 90 - counts.spooled > 0
    assert counts.first_unsaved == 10 + counts.spooled + 1
    assert f"{counts.unsaved} records that were taken on are lost" in said[-1]


def test_an_end_waits_for_kafka_when_records_are_in_memory_alone(
    made: Callable[[], Producer], kafka: Kafka, disk: Disk
) -> None:
    producer = made()
    producer.poll()
    send(producer, range(10))
    kafka.up, disk.room = False, 0
    producer.poll()
    kafka.up = True
    counts = producer.close(10)
    assert (counts.delivered, counts.unsaved) == (10, 0)


def test_a_stop_ends_the_wait_for_kafka(
    tmp_path: Path, kafka: Kafka, disk: Disk, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()
    spool = Spool(tmp_path / "spool", report=said.append)
    producer = Producer(kafka.connect, spool, ProducerMetrics("p"), say=said.append, stopped=stop)
    producer.poll()
    send(producer, range(10))
    kafka.up, disk.room = False, 0
    producer.poll()

    def wait(_: float) -> None:
        stop.asked += 1

    monkeypatch.setattr(producer, "wait", wait)
    assert (producer.close(1e9).unsaved, stop.asked) == (10, 1)


def test_a_topic_that_is_gone_at_the_end_does_not_hide_what_is_lost(
    made: Callable[[], Producer], kafka: Kafka, disk: Disk, said: list[str]
) -> None:
    producer = made()
    producer.poll()
    send(producer, range(10))
    kafka.up, disk.room, kafka.missing = False, 0, True
    producer._settle()
    with pytest.raises(NotFoundError):
        producer.close(10)
    assert "10 records that were taken on are lost" in said[-1]


def test_a_file_on_a_full_disk_ends_with_what_is_lost_and_where_to_go_on(
    made: Callable[[], Producer], kafka: Kafka, disk: Disk, said: list[str]
) -> None:
    kafka.room = 400

    def numbers() -> Iterator[int]:
        for number in range(5000):
            if number == 300:
                kafka.up, disk.room = False, 50 * LINE
            yield number

    wanted = order(numbers())
    summary = deliver(wanted, made(), Stop(), said.append, flush_seconds=0)
    counts = summary.counts
    assert counts.delivered + counts.spooled + counts.unsaved == counts.sent < 5000
    assert counts.unsaved > 0
    assert counts.first_unsaved is not None
    error = shortfall(wanted, summary)
    assert error is not None
    assert error.exit_code == 69
    assert f"{counts.unsaved} records that were taken on are lost" in error.message
    assert f"record {counts.sent + 1} and those after it were not taken on" in error.message
    assert f"from its record {counts.first_unsaved} on" in str(error)
    assert "--flush-spool" in str(error)
    taken_up_again = lines(range(counts.first_unsaved - 1, 5000))
    kafka.up, disk.room, kafka.room = True, None, 10_000
    with made() as producer:
        assert producer.flush(10)
    assert sorted({*kafka.arrived, *taken_up_again}) == lines(range(5000))


def test_a_file_waits_while_a_full_spool_is_being_sent(
    tmp_path: Path, kafka: Kafka, said: list[str], disk: Disk
) -> None:
    kafka.room = 3
    spool = Spool(tmp_path / "spool", report=said.append, limit_bytes=20 * LINE, segment_bytes=2 * LINE)
    spool.append(Record(line, None, 0, (("headgate.id", b"a-1"),)) for line in lines(range(18)))
    producer = Producer(kafka.connect, spool, ProducerMetrics("p"), say=said.append)
    summary = deliver(order(range(18, 100)), producer, Stop(), said.append, flush_seconds=10)
    assert (summary.complete, summary.full) == (True, None)
    assert kafka.arrived == lines(range(100))


def test_an_endless_producer_goes_on_after_a_full_disk_and_loses_nothing_it_took_on(
    made: Callable[[], Producer], kafka: Kafka, disk: Disk, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()
    producer = made()
    waiting = []

    def made_up() -> Iterator[Outgoing]:
        for number in count():
            if number == 100:
                kafka.up, disk.room = False, 5 * LINE
            elif number == 3000:
                stop.asked = 1
            yield Outgoing(b"%d" % number)

    def wait(_: float) -> None:
        waiting.append(producer.counts.unsaved)
        kafka.up = True

    monkeypatch.setattr(producer, "wait", wait)
    endless = Order("p", made_up(), None, endless=True, key=None)
    summary = deliver(endless, producer, stop, said.append, flush_seconds=0)
    assert waiting[0] > 0
    assert summary.counts.delivered == summary.counts.sent == len(kafka.arrived) > 1000
    assert [int(value) for value in kafka.arrived] == sorted(int(value) for value in kafka.arrived)
    assert shortfall(endless, summary) is None


def test_a_refused_record_waits_for_room_and_is_then_kept_apart(
    made: Callable[[], Producer], kafka: Kafka, disk: Disk, tmp_path: Path
) -> None:
    kafka.refuses = {b"0001", b"0003"}
    with made() as producer:
        producer.poll()
        disk.room = 0
        send(producer, range(5))
        producer.send(b"x" * 2000)
        producer.poll()
        assert (producer.counts.refused, producer.counts.unsaved, producer.counts.first_unsaved) == (0, 3, 2)
        disk.room = None
        producer.poll()
        assert (producer.counts.refused, producer.counts.unsaved, producer.idle) == (3, 0, True)
    assert kafka.arrived == [b"0000", b"0002", b"0004"]
    (file,) = (tmp_path / "spool").rglob("refused.seg")
    kept = [
        item.record.value for item in frames(memoryview(file.read_bytes()), 0) if isinstance(item, Framed)
    ]
    assert sorted(value[:4] for value in kept) == [b"0001", b"0003", b"xxxx"]
