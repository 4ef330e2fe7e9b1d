"""Lag: committed offsets against the topics' ends, whether or not a driver lives."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headgate.settings import Settings
from headgate.topics import lag as topics_lag
from monitoring.readings import AppliedContract, QueryLag
from monitoring.snapshot import PartitionLag
from monitoring.watch import Reading

__all__ = ["read_lags"]


def read_lags(
    settings: Settings, contracts: Callable[[], Mapping[str, AppliedContract]]
) -> Reading[Mapping[str, Mapping[str, QueryLag]]]:
    """The lag of every query of every applied pipeline. A missing topic is a problem, not the end."""
    frozen = [applied.frozen for applied in contracts().values()]
    if not frozen:
        return Reading({})
    streams = topics_lag.stream_lags(settings, frozen)
    problems = [f"{name}: {text}" for name, stream in streams.items() for text in stream.problems]
    found = {
        name: {query: _query(lag) for query, lag in stream.queries.items()}
        for name, stream in streams.items()
    }
    return Reading(found, tuple(problems))


def _query(lag: topics_lag.QueryLag) -> QueryLag:
    # At least so old: a partition whose age is not known may be older, and an alert must not wait for it.
    # Where no age is known there is none: that of partitions with nothing unread would say 0.
    ages: dict[str, float] = {}
    for topic in dict.fromkeys(each.topic for each in lag.partitions):
        behind = [each.seconds for each in lag.partitions if each.topic == topic and each.records]
        known = [seconds for seconds in behind if seconds is not None]
        if known or not behind:
            ages[topic] = max(known, default=0.0)
    partitions = tuple(
        PartitionLag(each.topic, each.partition, each.position, each.end, each.records)
        for each in lag.partitions
    )
    return QueryLag(lag.records, lag.seconds, partitions, ages)
