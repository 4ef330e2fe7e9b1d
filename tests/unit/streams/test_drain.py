from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.streams.drain import left_behind

TOPICS = {"records": ["a", "b"], "counts": ["a"]}
ENDS = {"a": {0: 10, 1: 4}, "b": {0: 7}}


def test_everything_is_committed_only_when_every_query_has_come_to_every_end() -> None:
    there = {"records": {"a": {0: 10, 1: 4}, "b": {0: 7}}, "counts": {"a": {0: 10, 1: 4}}}
    assert left_behind(ENDS, there, TOPICS) == 0
    assert left_behind(ENDS, {**there, "counts": {"a": {0: 9, 1: 4}}}, TOPICS) == 1
    assert left_behind(ENDS, {**there, "records": {"a": {0: 10, 1: 4}}}, TOPICS) == 7


def test_what_came_after_the_order_is_not_waited_for() -> None:
    beyond = {"records": {"a": {0: 99, 1: 99}, "b": {0: 99}}, "counts": {"a": {0: 99, 1: 99}}}
    assert left_behind(ENDS, beyond, TOPICS) == 0


def test_a_query_or_partition_that_has_not_begun_has_all_of_it_left() -> None:
    assert left_behind(ENDS, {}, TOPICS) == 21
    assert left_behind(ENDS, {"records": ENDS, "counts": {"a": {0: 10}}}, TOPICS) == 4


def test_topics_without_records_leave_nothing() -> None:
    assert left_behind({"a": {0: 0}, "b": {}}, {}, TOPICS) == 0
    assert left_behind({}, {}, TOPICS) == 0


_OFFSETS = st.dictionaries(
    st.sampled_from(["a", "b"]), st.dictionaries(st.integers(0, 3), st.integers(0, 50))
)


@given(ends=_OFFSETS, read=st.dictionaries(st.sampled_from(["records", "counts"]), _OFFSETS))
def test_it_is_done_exactly_when_no_partition_of_any_query_is_before_its_end(
    ends: dict[str, dict[int, int]], read: dict[str, dict[str, dict[int, int]]]
) -> None:
    behind = any(
        read.get(query, {}).get(topic, {}).get(partition, 0) < end
        for query, topics in TOPICS.items()
        for topic in topics
        for partition, end in ends.get(topic, {}).items()
    )
    assert (left_behind(ends, read, TOPICS) > 0) == behind
