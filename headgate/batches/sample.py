"""How large the records of a topic are that a driver is about to read, before anything has read them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from kafka import KafkaConsumer, TopicPartition

from headgate.settings import Settings
from headgate.topics.kafka import consumer_client

__all__ = ["Reading", "Sampling", "record_bytes"]

_log = logging.getLogger("headgate.driver")

# Of each partition and place. Offsets and log sizes would be cheaper, but the broker's are packed bytes.
_RECORDS = 16
# The first of these ends it, whether every partition has been heard or not. The topics share both.
_SECONDS, _BYTES = 5.0, 16 * 1024 * 1024
# Of one answer, and of each partition in it. A single record that is larger comes all the same.
_ANSWER_BYTES, _PARTITION_BYTES = 8 * 1024 * 1024, 256 * 1024
_EARLIEST = -2  # Spark's word for it

Client = Callable[[], AbstractContextManager[KafkaConsumer]]

# Where a sample of a partition begins, and the offset that it may not reach.
Places = Mapping[TopicPartition, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is going to be read of a topic: from `begin` on, where a partition that is not named begins with
    its first record; None where only what comes is read. With `end` nothing from there on."""

    begin: Mapping[int, int] | None = None
    end: Mapping[int, int] | None = None


class Sampling:
    """`record_bytes` of each topic, in a thread that nobody waits for longer than the time there is. Whether
    the stream may start is not for a sample to say, so whatever fails in it is told and no more.

    `readings` says where to look in each of the topics. To be made once the JVM runs: a process that has
    threads is not safely forked.
    """

    def __init__(
        self, settings: Settings, topics: Collection[str], readings: Callable[[], Mapping[str, Reading]]
    ) -> None:
        self._settings = settings
        self._topics = sorted(topics)
        self._readings = readings
        self._found: dict[str, float | None] = {}
        self._lock = threading.Lock()
        self._deadline = time.monotonic() + _SECONDS
        self._thread = threading.Thread(target=self._run, name="sample", daemon=True)
        self._thread.start()

    def result(self) -> dict[str, float | None]:
        """Mean bytes for each offset of a topic, None of one without records. A topic that is not among them
        could not be heard in time, or not at all."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        with self._lock:
            return dict(self._found)

    def _run(self) -> None:
        limits = {"fetch_max_bytes": _ANSWER_BYTES, "max_partition_fetch_bytes": _PARTITION_BYTES}
        wait = int(_SECONDS * 1000)
        client = partial(consumer_client, self._settings, **limits, request_timeout_ms=wait)
        try:
            readings = self._readings()
            for topic, until in self._turns():
                self._hear(client, topic, readings[topic], until)
        except Exception as error:  # noqa: BLE001 - see above
            _log.warning("the records of the topics cannot be looked at: %s", error)

    def _turns(self) -> Iterator[tuple[str, float]]:
        """Each topic and until when it may take: what the ones before it left is shared alike."""
        for done, topic in enumerate(self._topics):
            left = self._deadline - time.monotonic()
            if left <= 0:
                return
            yield topic, time.monotonic() + left / (len(self._topics) - done)

    def _hear(self, client: Client, topic: str, reading: Reading, until: float) -> None:
        try:
            found = record_bytes(client, topic, reading, until, _BYTES // len(self._topics))
        except Exception as error:  # noqa: BLE001 - a codec that is not installed, a right that is missing …
            told = str(error) or type(error).__name__
            _log.warning("the records of topic %s cannot be looked at: %s", topic, told)
            return
        with self._lock:
            self._found[topic] = found


def record_bytes(client: Client, topic: str, reading: Reading, until: float, enough: int) -> float | None:
    """Mean bytes of key and value for each offset: of the records that are read next, or of the newest ones,
    whichever are larger. None of a topic without records. Raises TimeoutError when none came in time, and
    whatever the client raises."""
    with client() as consumer:
        partitions = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
        if not partitions:
            raise LookupError("it is not there, or not to be seen by this user")
        begins = consumer.beginning_offsets(partitions, timeout_ms=_left(until))
        ends = consumer.end_offsets(partitions, timeout_ms=_left(until))
    places = [each for each in _places(begins, ends, reading) if each]
    if not places:
        return None
    # The next ones may have half of the time: a partition that does not answer must not take all of it.
    means = []
    for done, each in enumerate(places):
        now = time.monotonic()
        share = len(places) - done
        # A client of its own: one that was paused, and is sent elsewhere, may not be heard of again.
        with client() as consumer:
            means.append(_mean(consumer, each, now + (until - now) / share, enough // len(places)))
    known = [mean for mean in means if mean is not None]
    if not known:
        raise TimeoutError("it has records, and none of them came in time")
    return max(known)


def _places(
    begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int], reading: Reading
) -> tuple[Places, Places]:
    """Where the records are that are read next, and where the newest ones are, of each partition that has
    any. Where these are the same, they are among the newest."""
    following: dict[TopicPartition, tuple[int, int]] = {}
    newest: dict[TopicPartition, tuple[int, int]] = {}
    for each, oldest in begins.items():
        start = max(oldest, (reading.begin or {}).get(each.partition, _EARLIEST))
        first, last = oldest, ends[each]
        if reading.end is not None:
            first, last = start, min(last, reading.end.get(each.partition, 0))
        if first >= last:
            continue
        newest[each] = (max(first, last - _RECORDS), last)
        if reading.begin is not None and start < newest[each][0]:
            following[each] = (start, last)
    return following, newest


def _mean(consumer: KafkaConsumer, places: Places, until: float, enough: int) -> float | None:
    """Over the offsets that were covered, not over records: a batch is bounded by offsets, and a compacted
    topic or one with transactions has some without a record."""
    consumer.assign(list(places))
    for each, (begin, _) in places.items():
        consumer.seek(each, begin)
    counts, reached, size = dict.fromkeys(places, 0), {each: begin for each, (begin, _) in places.items()}, 0
    awaited = set(places)
    while awaited and size < enough and time.monotonic() < until:
        for each, records in consumer.poll(timeout_ms=min(200, _left(until))).items():
            inside = [record for record in records if record.offset < places[each][1]]
            for record in inside[: _RECORDS - counts[each]]:
                counts[each] += 1
                reached[each] = record.offset + 1
                size += len(record.key or b"") + len(record.value or b"")
        done = [
            each for each in awaited if counts[each] >= _RECORDS or _through(consumer, places, each, until)
        ]
        if done:
            awaited.difference_update(done)
            consumer.pause(*done)
    covered = sum(reached[each] - begin for each, (begin, _) in places.items())
    return size / covered if covered else None


def _through(consumer: KafkaConsumer, places: Places, partition: TopicPartition, until: float) -> bool:
    """By position, not by count: markers of transactions have offsets and are no records. The client may not
    know a position yet."""
    position = consumer.position(partition, timeout_ms=_left(until))
    return position is not None and position >= places[partition][1]


def _left(until: float) -> int:
    """Milliseconds. Never none: to the client that would be no bound at all, or a mistake."""
    return max(1, int((until - time.monotonic()) * 1000))
