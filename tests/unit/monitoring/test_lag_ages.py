"""The age of a topic's lag, as the exporter gives it."""

from __future__ import annotations

from headgate.topics.lag import PartitionLag, QueryLag
from monitoring.sources.kafka import _query


def ages(*partitions: tuple[str, int, float | None]) -> dict[str, float]:
    found = [
        PartitionLag(topic, number, 0, 0, 0, records, seconds)
        for number, (topic, records, seconds) in enumerate(partitions)
    ]
    return dict(_query(QueryLag("records", 1, tuple(found))).topic_seconds)


def test_a_topic_that_is_read_to_its_end_is_of_age_zero():
    assert ages(("a", 0, 0.0), ("a", 0, 0.0)) == {"a": 0.0}


def test_an_age_that_is_not_known_is_not_zero():
    assert ages(("a", 0, 0.0), ("a", 995, None), ("b", 1, 7.0)) == {"b": 7.0}


def test_a_topic_is_at_least_as_late_as_what_is_known():
    assert ages(("a", 5, 90.0), ("a", 995, None), ("a", 2, 3.0)) == {"a": 90.0}
