"""Which times of a window's rows are wholly inside a range: no record outside it has a part in them. Pure.

A row at time `s` is of records with event times in [s, s + length), or of those at `s` itself where the
length is 0. `outside` holds the seconds in which some record outside the range lies, as pairs of a first
and a last one; between the seconds of a pair no row needs to be looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["FIRST", "MICROS", "Span", "free_spans"]

MICROS = 1_000_000
# A predicate names each span: what a few stragglers cut out beyond so many stays as it is.
_MOST = 100
FIRST = -62_135_596_800 * MICROS  # the year 1

Span = tuple[int, int]


def free_spans(outside: Iterable[Span], *, above: int | None, closed: int, length: int) -> list[Span]:
    """Spans [low, high] of row times in microseconds, both ends included, in order.

    Below and at `above` anything may have been; a row is final when its window ends at `closed` or before.
    """
    found = _gaps(sorted(outside), above, closed, length)
    longest = sorted(found, key=lambda span: span[0] - span[1])[:_MOST]
    return sorted(longest)


def _gaps(taken: list[Span], above: int | None, closed: int, length: int) -> Iterator[Span]:
    low, last = (FIRST if above is None else above + 1), closed - length
    for first, until in taken:
        high = min(first * MICROS - max(length, 1), last)
        if low <= high:
            yield low, high
        low = max(low, (until + 1) * MICROS)
    if low <= last:
        yield low, last
