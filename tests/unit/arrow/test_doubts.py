"""When a stream is told that Arrow is not sure of most of its records."""

from __future__ import annotations

from headgate.arrow.doubts import Doubts


def test_a_change_is_told_once_each_way_and_not_around_the_bound():
    doubts = Doubts()
    assert not doubts.note(1000, 400)
    assert doubts.note(1000, 900)
    assert doubts.most
    assert not doubts.note(1000, 1000)
    assert not doubts.note(2000, 0)
    assert doubts.most, "46 of 100"
    assert doubts.note(10_000, 0)
    assert not doubts.most
    assert not doubts.note(10_000, 9_000)


def test_a_few_records_say_nothing_of_a_topic():
    doubts = Doubts()
    assert not doubts.note(1, 1)
    assert not doubts.note(998, 998)
    assert doubts.note(1, 1)


def test_only_the_newest_batches_count_and_one_without_records_is_none_of_them():
    doubts = Doubts()
    assert [doubts.note(100, 100) for _ in range(10)] == [*[False] * 9, True]
    assert not any(doubts.note(0, 0) for _ in range(100))
    changes = [doubts.note(100, 0) for _ in range(30)]
    assert (changes.count(True), doubts.most) == (1, False)
