"""How large the records of a topic are, asked of a real broker with the real client."""

from __future__ import annotations

import time

import pytest
from driver_process import send

from headgate.batches import sample
from headgate.batches.sample import Reading, Sampling
from headgate.settings import Settings
from headgate.topics.kafka import admin_client

PARTITIONS = 4


def test_the_records_that_are_read_next_and_the_newest_ones_are_both_heard(
    service_settings: Settings, broker: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that had to hear both of the same partitions would not be answered."""
    monkeypatch.setattr(sample, "_SECONDS", 60.0)
    topic = f"sample-{time.time_ns()}"
    with admin_client(service_settings) as admin:
        admin.create_topics({topic: {"num_partitions": PARTITIONS, "replication_factor": 1}})
    for value in (b"x" * 10, b"y" * 5_000, b"z" * 100):
        send(service_settings, topic, [value] * 400, PARTITIONS)

    def every(offset: int) -> dict[int, int]:
        return dict.fromkeys(range(PARTITIONS), offset)

    def sampled(reading: Reading) -> float | None:
        return Sampling(service_settings, [topic], lambda: {topic: reading}).result()[topic]

    assert sampled(Reading()) == 100
    assert sampled(Reading(begin={})) == 100, "the newest are larger than the first ones"
    assert sampled(Reading(begin=every(100))) == 5_000
    assert sampled(Reading(begin={}, end=every(150))) == 5_000
