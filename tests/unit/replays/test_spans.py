"""Which windows are whole: against looking at every one of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.replays.spans import MICROS, free_spans

seconds = st.lists(st.integers(0, 40), max_size=15)
lengths = st.integers(0, 7)


@given(seconds, st.none() | st.integers(-2, 20), st.integers(0, 45), lengths)
def test_a_row_is_free_if_and_only_if_nothing_outside_can_be_in_its_window(outside, above, closed, length):
    spans = free_spans(
        [(second, second) for second in outside],
        above=None if above is None else above * MICROS,
        closed=closed * MICROS,
        length=length * MICROS,
    )
    assert all(low <= high for low, high in spans)
    for row in range(-3, 50):
        time = row * MICROS
        covered = range(row, row + max(length, 1))  # at length 0 the second of the row itself
        touched = any(second in covered for second in outside)
        known = above is None or time > above * MICROS
        whole = not touched and known and row + length <= closed
        assert any(low <= time <= high for low, high in spans) == whole, (row, spans)


def test_of_more_spans_than_a_predicate_can_name_the_longest_are_kept():
    outside = [n * 3 for n in range(300)] + [2_000]
    spans = free_spans([(n, n) for n in outside], above=-1, closed=3_000 * MICROS, length=MICROS)
    assert len(spans) == 100
    assert spans == sorted(spans)
    assert (898 * MICROS, 1_999 * MICROS) in spans


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=8), lengths)
def test_a_pair_of_seconds_stands_for_all_of_them(pairs, length):
    limits = {"above": None, "closed": 60 * MICROS, "length": length * MICROS}
    singly = [(n, n) for first, more in pairs for n in range(first, first + more + 1)]
    together = [(first, first + more) for first, more in pairs]
    assert free_spans(together, **limits) == free_spans(singly, **limits)
