"""When a stream is told that Arrow is not sure of most of its records."""

from __future__ import annotations

from headgate.arrow.doubts import Doubts


def test_a_change_is_told_once_each_way():
    doubts = Doubts()
    assert not doubts.note(100, 40)
    assert doubts.note(100, 90)
    assert doubts.most and doubts.share == 0.65
    assert not doubts.note(100, 100)
    assert [doubts.note(1000, 0), doubts.note(1000, 0)] == [True, False]
    assert not doubts.most


def test_only_the_newest_batches_count_and_one_without_records_is_none_of_them():
    doubts = Doubts()
    for _ in range(20):
        doubts.note(10, 10)
    assert doubts.most
    for _ in range(100):
        assert not doubts.note(0, 0)
    for _ in range(10):
        doubts.note(10, 0)
    assert (doubts.share, doubts.most) == (0.5, False)
