"""The numbers of a lag, from what is known of each partition."""

from __future__ import annotations

from headgate.topics.lag import PartitionLag, QueryLag, StreamLag


def partition(number: int, records: int, seconds: float | None) -> PartitionLag:
    return PartitionLag("t", number, 5, 5, 0, 5 + records, seconds)


def test_the_age_is_that_of_the_oldest_unread_record():
    lag = QueryLag("records", 1, (partition(0, 0, 0.0), partition(1, 9, 30.0), partition(2, 1, 7.0)))
    assert (lag.records, lag.seconds) == (10, 30.0)


def test_an_unknown_age_is_not_hidden_by_partitions_that_are_read_to_the_end():
    lag = QueryLag("records", 1, (partition(0, 0, 0.0), partition(1, 995, None)))
    assert (lag.records, lag.seconds) == (995, None)


def test_a_stream_whose_worst_query_is_of_unknown_age_is_of_unknown_age():
    behind = QueryLag("records", 1, (partition(0, 995, None),))
    read = QueryLag("per_minute", 1, (partition(0, 0, 0.0),))
    assert StreamLag("p", 0.0, {"records": behind, "per_minute": read}).seconds is None
    assert StreamLag("p", 0.0, {"per_minute": read}).seconds == 0.0
    assert StreamLag("p", 0.0, {}).seconds is None
