"""How large the records of a topic are, from its newest ones, before anything has read it."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from headgate.errors import KafkaUnavailable, ServiceError
from headgate.settings import Settings
from headgate.topics.kafka import consumer_client

__all__ = ["record_sizes", "sampling"]

_log = logging.getLogger("headgate.driver")

# Of each partition. Offsets and log sizes would be cheaper, but the broker's are packed bytes.
_RECORDS = 16
# The first of these ends it, whether every partition has been heard or not. The topics share the bytes.
_SECONDS, _BYTES = 5.0, 16 * 1024 * 1024
# Of one answer, and of each partition in it. A single record that is larger comes all the same.
_ANSWER_BYTES, _PARTITION_BYTES = 8 * 1024 * 1024, 256 * 1024


@contextmanager
def sampling(settings: Settings, topics: Collection[str]) -> Iterator[Future[dict[str, float]]]:
    """`record_sizes` beside what else a start takes. Without an answer of Kafka's it is empty: the first
    batches are then bounded by records alone, and whether the stream may start is not for a sample to say."""

    def sizes() -> dict[str, float]:
        try:
            return record_sizes(settings, topics)
        except (KafkaUnavailable, ServiceError) as error:
            _log.warning("the first batches are bounded by records alone: %s", error.message)
            return {}

    with ThreadPoolExecutor(1, "sample") as pool:
        yield pool.submit(sizes)


def record_sizes(settings: Settings, topics: Collection[str]) -> dict[str, float]:
    """Mean bytes of key and value of the newest records of each topic that has any. Of large ones some are
    enough, and where Kafka takes long those that came in time. Raises KafkaUnavailable."""
    with consumer_client(
        settings, fetch_max_bytes=_ANSWER_BYTES, max_partition_fetch_bytes=_PARTITION_BYTES
    ) as consumer:
        ends = _seek_newest(consumer, topics)
        counts: defaultdict[str, int] = defaultdict(int)
        sizes: defaultdict[str, int] = defaultdict(int)
        deadline = time.monotonic() + _SECONDS
        enough = _BYTES // max(1, len(topics))
        while ends and time.monotonic() < deadline:
            for partition, records in consumer.poll(timeout_ms=200).items():
                counts[partition.topic] += len(records)
                sizes[partition.topic] += sum(map(_size, records))
            # By position, not by count: markers of transactions have offsets and are no records.
            if done := [
                each
                for each, end in ends.items()
                if consumer.position(each) >= end or sizes[each.topic] >= enough
            ]:
                ends = {each: end for each, end in ends.items() if each not in done}
                consumer.pause(*done)
    return {topic: sizes[topic] / count for topic, count in counts.items() if count}


def _seek_newest(consumer: KafkaConsumer, topics: Collection[str]) -> dict[TopicPartition, int]:
    """Go to the newest records of each partition that has any; where each of these ends."""
    partitions = [
        TopicPartition(topic, number)
        for topic in sorted(set(topics))
        for number in sorted(consumer.partitions_for_topic(topic) or ())
    ]
    begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    filled = [each for each in partitions if ends[each] > begins[each]]
    consumer.assign(filled)
    for each in filled:
        consumer.seek(each, max(begins[each], ends[each] - _RECORDS))
    return {each: ends[each] for each in filled}


def _size(record: Any) -> int:
    return len(record.key or b"") + len(record.value or b"")
