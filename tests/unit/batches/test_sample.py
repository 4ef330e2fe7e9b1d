from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from headgate.batches import sample
from headgate.batches.sample import Reading, Sampling
from headgate.errors import KafkaUnavailable, RefusedError
from headgate.settings import Settings

NEWEST = Reading()


class Consumer:
    """Topic to partitions to values; None in the list is an offset without a record."""

    def __init__(self, topics: dict[str, list[list[bytes | None]]]) -> None:
        self._topics = topics
        self._places: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self.read = 0
        self.broken: dict[str, Exception] = {}  # topic to what a poll of it raises
        self.unknown = 0  # how many times a position is not there yet
        self.asked = threading.Event()
        self.hangs: threading.Event | None = None

    def _log(self, key: TopicPartition) -> list[bytes | None]:
        return self._topics[key.topic][key.partition]

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(len(self._topics.get(topic, ()))))

    def beginning_offsets(self, keys: list[TopicPartition], timeout_ms: int) -> dict[TopicPartition, int]:
        assert timeout_ms > 0
        return dict.fromkeys(keys, 0)

    def end_offsets(self, keys: list[TopicPartition], timeout_ms: int) -> dict[TopicPartition, int]:
        assert timeout_ms > 0
        self.asked.set()
        if self.hangs is not None:
            self.hangs.wait(30)
        return {key: len(self._log(key)) for key in keys}

    def assign(self, keys: list[TopicPartition]) -> None:
        self._places = dict.fromkeys(keys, 0)

    def seek(self, key: TopicPartition, offset: int) -> None:
        self._places[key] = offset

    def position(self, key: TopicPartition, timeout_ms: int) -> int | None:
        assert timeout_ms > 0
        if self.unknown:
            self.unknown -= 1
            return None
        return self._places[key]

    def pause(self, *keys: TopicPartition) -> None:
        self._paused.update(keys)

    def begun(self) -> Consumer:
        """Another client: with the one that has paused a partition it stays paused, and more is amiss."""
        self._paused = set()
        return self

    def poll(self, **_: Any) -> dict[TopicPartition, list[Any]]:
        key = next((each for each in self._places if each not in self._paused), None)
        if key is None:
            return {}
        if key.topic in self.broken:
            raise self.broken[key.topic]
        begin = self._places[key]
        values = self._log(key)[begin : begin + 3]
        self._places[key] += len(values)
        records = [
            SimpleNamespace(key=b"k", value=value or None, offset=begin + place)
            for place, value in enumerate(values)
            if value is not None
        ]
        self.read += len(records)
        return {key: records} if records else {}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def of(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def client(*_: Any, **__: Any) -> Iterator[Consumer]:
        yield consumer.begun()

    monkeypatch.setattr(sample, "consumer_client", client)


def sampled(settings: Settings, *topics: str, **readings: Reading) -> dict[str, float | None]:
    return sampling(settings, {**dict.fromkeys(topics, NEWEST), **readings}).result()


def sampling(settings: Settings, readings: dict[str, Reading]) -> Sampling:
    return Sampling(settings, readings.keys(), lambda: readings)


def test_the_newest_records_of_each_partition_say_how_large_they_are(settings, monkeypatch):
    logs: list[list[bytes | None]] = [[b"x" * 9_999] * 50 + [b"y" * 99] * 16, [b"z" * 299], []]
    consumer = Consumer({"t": logs, "small": [[b"", None]], "empty": [[]]})
    of(consumer, monkeypatch)
    found = sampled(settings, "t", "small", "empty", "none")
    assert found == {"t": (16 * 100 + 300) / 17, "small": 1.0, "empty": None}, "of `none` nothing is known"
    assert consumer.read == 16 + 1 + 1


def test_a_size_is_one_for_each_offset_whether_it_has_a_record_or_not(settings, monkeypatch):
    gaps: list[bytes | None] = [None, None, None, b"x" * 39] * 4
    of(Consumer({"t": [gaps]}), monkeypatch)
    assert sampled(settings, "t") == {"t": 10.0}


def test_what_is_read_next_counts_where_it_is_larger_than_what_came_last(settings, monkeypatch):
    log: list[bytes | None] = [*[b"a" * 99] * 40, *[b"b" * 999] * 40, *[b"c" * 9] * 40]
    of(Consumer({"t": [log]}), monkeypatch)
    assert sampled(settings, t=NEWEST) == {"t": 10.0}
    assert sampled(settings, t=Reading(begin={})) == {"t": 100.0}, "a new checkpoint, from the first record"
    assert sampled(settings, t=Reading(begin={0: 40})) == {"t": 1_000.0}
    assert sampled(settings, t=Reading(begin={0: 120})) == {"t": 10.0}, (
        "all is read, and more of it will come"
    )


def test_a_range_is_sized_by_its_own_records_alone_the_larger_ones_of_its_two_ends(settings, monkeypatch):
    log: list[bytes | None] = [
        *[b"x" * 9_999] * 40,
        *[b"a" * 9] * 40,
        *[b"b" * 99] * 40,
        *[b"y" * 9_999] * 40,
    ]
    of(Consumer({"t": [log, log]}), monkeypatch)
    both = {0: 40, 1: 40}
    assert sampled(settings, t=Reading(begin=both, end={0: 120, 1: 40})) == {"t": 100.0}
    assert sampled(settings, t=Reading(begin=both, end={0: 45, 1: 40})) == {"t": 10.0}
    assert sampled(settings, t=Reading(begin=both, end=both)) == {"t": None}


def test_of_large_records_some_are_enough_and_the_small_ones_of_another_topic_are_heard_too(
    settings, monkeypatch
):
    consumer = Consumer({"large": [[b"x" * 999] * 16] * 64, "small": [[b"y" * 9] * 16]})
    of(consumer, monkeypatch)
    monkeypatch.setattr(sample, "_BYTES", 10_000)
    assert sampled(settings, "large", "small") == {"large": 1_000.0, "small": 10.0}
    assert consumer.read < 16 + 16


@pytest.mark.parametrize("error", [RuntimeError("codec zstd"), ValueError("cut"), TypeError("None >= 3")])
def test_a_topic_that_cannot_be_read_takes_nothing_from_the_others(settings, monkeypatch, caplog, error):
    consumer = Consumer({"a": [[b"x" * 9]], "b": [[b"x" * 9]], "c": [[b"x" * 9]]})
    consumer.broken["b"] = error
    of(consumer, monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert sampled(settings, "a", "b", "c") == {"a": 10.0, "c": 10.0}
    assert f"topic b cannot be looked at: {error}" in caplog.text


def test_a_position_that_the_client_does_not_know_yet_is_asked_for_again(settings, monkeypatch):
    consumer = Consumer({"t": [[b"x" * 9, None]]})
    consumer.unknown = 3
    of(consumer, monkeypatch)
    assert sampled(settings, "t") == {"t": 10.0}
    assert not consumer.unknown


def test_a_broker_that_hangs_holds_nobody_up_and_what_was_heard_before_counts(settings, monkeypatch):
    consumer, again = Consumer({"a": [[b"x" * 9]], "b": [[b"x" * 9]]}), threading.Event()
    of(consumer, monkeypatch)
    monkeypatch.setattr(sample, "_SECONDS", 0.5)
    heard = sample.record_bytes

    def hanging(asked: Any, topic: str, *rest: Any) -> float | None:
        consumer.hangs = again if topic == "b" else None
        return heard(asked, topic, *rest)

    monkeypatch.setattr(sample, "record_bytes", hanging)
    try:
        begun = sampling(settings, {"a": NEWEST, "b": NEWEST})
        assert begun.result() == {"a": 10.0}
        assert begun._thread.is_alive()
        assert begun._thread.daemon, "it must not hold up the end of the process either"
    finally:
        again.set()
        begun._thread.join(30)


def test_a_client_that_cannot_be_made_is_told(settings, monkeypatch, caplog):
    def client(*_: Any, **__: Any) -> Any:
        raise KafkaUnavailable("no broker")

    monkeypatch.setattr(sample, "consumer_client", client)
    with caplog.at_level(logging.WARNING):
        assert sampled(settings, "t") == {}
    assert "cannot be looked at: no broker" in caplog.text


def test_a_checkpoint_that_cannot_be_read_is_told_and_fails_no_start_by_itself(settings, monkeypatch, caplog):
    def damaged() -> dict[str, Reading]:
        raise RefusedError("offsets/7 is cut")

    of(Consumer({"t": [[b"x" * 9]]}), monkeypatch)
    with caplog.at_level(logging.WARNING):
        assert Sampling(settings, ["t"], damaged).result() == {}
    assert "cannot be looked at: offsets/7 is cut" in caplog.text


def test_no_call_of_the_client_has_longer_than_the_time_that_is_left(settings, monkeypatch):
    asked: list[int] = []
    consumer = Consumer({"t": [[b"x" * 9]]})
    ends, position = consumer.end_offsets, consumer.position
    monkeypatch.setattr(
        consumer, "end_offsets", lambda keys, timeout_ms: asked.append(timeout_ms) or ends(keys, timeout_ms)
    )
    monkeypatch.setattr(
        consumer, "position", lambda key, timeout_ms: asked.append(timeout_ms) or position(key, timeout_ms)
    )
    client: Any = partial(nullcontext, consumer)
    sample.record_bytes(client, "t", NEWEST, time.monotonic() + 2, 1_000)
    assert len(asked) == 2
    assert all(0 < each <= 2_000 for each in asked)
