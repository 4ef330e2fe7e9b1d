"""Fills a topic with a dataset, once: a topic that holds exactly it already is left as it is."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from kafka import TopicPartition
from kafka.admin import NewTopic
from kafka.net.compat import KafkaNetClient
from kafka.protocol.producer import ProduceRequest

from bench.batches import RECORDS_PER_BATCH, encode_batch
from bench.dataset import PARTITIONS, Dataset
from bench.waiting import wait_for
from headgate.settings import Settings
from headgate.topics.kafka import admin_client, client_options, consumer_client

__all__ = ["TOPIC_CONFIG", "end_offsets", "load", "make_topic", "produce_request", "refuse_errors"]

FORMAT = 2  # raise it when the records of a dataset change
TOPIC_CONFIG = {"retention.ms": "-1"}


def load(settings: Settings, topic: str, dataset: Dataset) -> None:
    """The topic with the dataset's records and no other; takes about a minute for 16 million."""
    notes = settings.state / f"{topic}.json"
    wanted = {
        "format": FORMAT,
        "records": dataset.records,
        "bad_every": dataset.bad_every,
        "form": dataset.form,
    }
    if _holds(settings, topic, notes, wanted, dataset):
        return
    print(f"loading {dataset.records:,} records into {topic} …", flush=True)
    notes.unlink(missing_ok=True)
    topic_id = make_topic(settings, topic)
    begun = time.monotonic()
    _produce(settings, topic, dataset)
    took = time.monotonic() - begun
    if end_offsets(settings, topic) != dict.fromkeys(range(PARTITIONS), dataset.per_partition):
        raise SystemExit(f"error: {topic} does not hold {dataset.records:,} records after loading")
    notes.write_text(json.dumps({**wanted, "topic_id": topic_id}), encoding="utf-8")
    print(f"loaded in {took:.0f} s, {dataset.records / took:,.0f} records/s", flush=True)


def make_topic(settings: Settings, topic: str) -> str:
    """An empty topic of this name, whatever was there; its id."""
    with admin_client(settings) as admin:
        if topic in admin.list_topics():
            admin.delete_topics([topic])
            wait_for(lambda: topic not in admin.list_topics(), 60, f"{topic} is deleted")
        admin.create_topics(
            [NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1, topic_configs=TOPIC_CONFIG)]
        )
        wait_for(lambda: topic in admin.list_topics(), 30, f"{topic} is there")
        end_offsets(settings, topic)  # answered once the broker leads every partition, and takes records
        return str(admin.describe_topics([topic])[0]["topic_id"])


def end_offsets(settings: Settings, topic: str) -> dict[int, int]:
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    with consumer_client(settings) as consumer:
        return {at.partition: offset for at, offset in consumer.end_offsets(partitions).items()}


def _holds(
    settings: Settings, topic: str, notes: Path, wanted: Mapping[str, object], dataset: Dataset
) -> bool:
    if not notes.is_file():
        return False
    noted = json.loads(notes.read_text(encoding="utf-8"))
    with admin_client(settings) as admin:
        if topic not in admin.list_topics():
            return False
        same_topic = str(admin.describe_topics([topic])[0]["topic_id"]) == noted.pop("topic_id")
    full = dict.fromkeys(range(PARTITIONS), dataset.per_partition)
    return same_topic and noted == wanted and end_offsets(settings, topic) == full


def _produce(settings: Settings, topic: str, dataset: Dataset) -> None:
    client = KafkaNetClient(**client_options(settings))
    try:
        client.get_broker_version()
        (node,) = [broker.node_id for broker in client.cluster.brokers()]
        for start in range(0, dataset.per_partition, RECORDS_PER_BATCH):
            stop = min(start + RECORDS_PER_BATCH, dataset.per_partition)
            now = int(time.time() * 1000)
            batches = {
                number: encode_batch(*dataset.values(number, start, stop), timestamp_ms=now)
                for number in range(PARTITIONS)
            }
            refuse_errors(client.send_and_receive(node, produce_request(topic, batches, acks=1)))
    finally:
        client.close()


def produce_request(topic: str, batches: Mapping[int, bytes], *, acks: int) -> ProduceRequest:
    """One request with a batch for each partition that has one."""
    topic_data = ProduceRequest.TopicProduceData
    partitions = [
        topic_data.PartitionProduceData(index=number, records=batch) for number, batch in batches.items()
    ]
    return ProduceRequest(
        transactional_id=None,
        acks=acks,
        timeout_ms=30_000,
        topic_data=[topic_data(name=topic, partition_data=partitions)],
        min_version=3,
        max_version=9,
    )


def refuse_errors(answer: object) -> None:
    """End the benchmark where the broker did not take a batch."""
    for topic in answer.responses:  # type: ignore[attr-defined]  # kafka-python's types stop here
        for partition in topic.partition_responses:
            if partition.error_code:
                raise SystemExit(f"error: the broker refused a batch with code {partition.error_code}")
