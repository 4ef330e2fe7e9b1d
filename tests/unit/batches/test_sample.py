from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from headgate.batches import sample
from headgate.batches.sample import record_sizes, sampling
from headgate.errors import KafkaUnavailable
from headgate.settings import Settings


class Consumer:
    """Topic to partitions to values; a value that is None in the list is a marker, which is no record."""

    def __init__(self, topics: dict[str, list[list[bytes | None]]]) -> None:
        self._topics = topics
        self._places: dict[TopicPartition, int] = {}
        self.read = 0

    def _log(self, key: TopicPartition) -> list[bytes | None]:
        return self._topics[key.topic][key.partition]

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(len(self._topics[topic]))) if topic in self._topics else None

    def beginning_offsets(self, keys: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(keys, 0)

    def end_offsets(self, keys: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {key: len(self._log(key)) for key in keys}

    def assign(self, keys: list[TopicPartition]) -> None:
        self._places = dict.fromkeys(keys, 0)

    def seek(self, key: TopicPartition, offset: int) -> None:
        self._places[key] = offset

    def position(self, key: TopicPartition) -> int:
        return self._places[key]

    def pause(self, *keys: TopicPartition) -> None:
        for key in keys:
            del self._places[key]

    def poll(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        key = next(iter(self._places))
        values = self._log(key)[self._places[key] : self._places[key] + 3]
        self._places[key] += len(values)
        records = [SimpleNamespace(key=b"k", value=value or None) for value in values if value is not None]
        self.read += len(records)
        return {key: records} if records else {}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def of(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def client(*_: Any, **__: Any) -> Iterator[Consumer]:
        yield consumer

    monkeypatch.setattr(sample, "consumer_client", client)


def test_the_newest_records_of_each_partition_say_how_large_they_are(settings, monkeypatch):
    logs: list[list[bytes | None]] = [[b"x" * 9_999] * 50 + [b"y" * 99] * 16, [b"z" * 299], []]
    consumer = Consumer({"t": logs, "small": [[b"", None]], "empty": [[]]})
    of(consumer, monkeypatch)
    found = record_sizes(settings, ["t", "small", "empty", "none"])
    assert found == {"t": (16 * 100 + 300) / 17, "small": 1.0}
    assert consumer.read == 16 + 1 + 1


def test_of_large_records_some_are_enough_and_the_small_ones_of_another_topic_are_heard_too(
    settings, monkeypatch
):
    consumer = Consumer({"large": [[b"x" * 999] * 16] * 64, "small": [[b"y" * 9] * 16]})
    of(consumer, monkeypatch)
    monkeypatch.setattr(sample, "_BYTES", 10_000)
    assert record_sizes(settings, ["large", "small"]) == {"large": 1_000.0, "small": 10.0}
    assert consumer.read < 16 + 10


def test_a_broker_that_does_not_answer_is_told_and_holds_nobody_up(settings, monkeypatch, caplog):
    def client(*_: Any, **__: Any) -> Any:
        raise KafkaUnavailable("no broker")

    monkeypatch.setattr(sample, "consumer_client", client)
    with caplog.at_level(logging.WARNING), sampling(settings, ["t"]) as sampled:
        assert sampled.result() == {}
    assert "bounded by records alone: no broker" in caplog.text
