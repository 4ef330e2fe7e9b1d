"""How many records of a source a batch may have, from what its batches were. Pure.

Another cap costs a restart of the query, so it is never changed for little: only where it would be no more
than half or no less than twice what it is. It is taken back at once when a batch of no more records than it
allows was measured at more than twice the bytes that it may have, and in every other case when several
batches in a row say so.

What follows a change is never the way back: a batch of the new cap has the bytes, or takes the time, that the
change aimed at, and the bounds at which the next change begins are a factor of two away on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

from headgate.batches.bounds import Bounds

__all__ = [
    "AGREE",
    "Batch",
    "cap_at_once",
    "cap_for_bytes",
    "cap_on_the_way_up",
    "cap_that_fits",
    "cap_worth_its_state",
    "first_cap",
    "guessed_cap",
    "is_full",
    "next_cap",
]

AGREE = 3  # batches in a row that must say the same
_FAR = 2
# From here on a batch leaves records behind: Spark rounds the share of each partition down.
_FULL = 0.5
# Part of a batch's time is the same however small it is. Where that alone is too long, smaller batches would
# only carry less: time makes them so much smaller than their bytes, and no more.
_LEAST_BY_TIME = 8
# More records than this many times as many are worth a second copy of a large state for a while: without them
# a query that one burst of large records has made small would stay behind for as long as its driver lives.
_WORTH_A_STATE = 8
# Kafka's own limit of a record, `max.message.bytes`, where nobody says another.
_LARGE_RECORD = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """What a query has read of one source. Records are counted as Spark bounds them, by their offsets.
    `record_bytes` is the mean of what came lately, which one odd batch of few records hardly changes. The
    bytes of a batch that was not `measured` follow from it, and another part of the topic may be meant."""

    records: int
    bytes: int
    record_bytes: float
    seconds: float
    measured: bool = True
    timed: bool = True  # whether it took the time by itself


def is_full(cap: int, batch: Batch) -> bool:
    """Whether it has left records behind, as far as can be seen."""
    return batch.records >= _FULL * cap


def first_cap(bounds: Bounds, record_bytes: float | None) -> int:
    """Before there was a batch. Of a topic without records nothing is known: what comes into it from now on
    is measured before there can be much of it."""
    return bounds.records if record_bytes is None else _fitting(bounds, record_bytes)


def guessed_cap(bounds: Bounds, partitions: int) -> int:
    """The first cap for a topic that has records whose size could not be found out: as if they were large.
    One of each partition comes whatever is said."""
    return min(bounds.records, max(1, partitions, bounds.bytes // _LARGE_RECORD))


def next_cap(cap: int, batches: Sequence[Batch], bounds: Bounds) -> int:
    """The cap from now on, mostly the one that is. `batches` are those since it was set, the newest last, and
    none without records."""
    if (less := cap_at_once(cap, batches, bounds)) != cap:
        return less
    wanted = [_wanted(cap, batch, bounds) for batch in batches[-AGREE:]]
    if len(wanted) < AGREE:
        return cap
    if all(each * _FAR <= cap for each in wanted):
        return max(wanted)
    if all(each >= cap * _FAR for each in wanted):
        return min(wanted)
    return cap


def cap_at_once(cap: int, batches: Sequence[Batch], bounds: Bounds) -> int:
    """The cap after a batch that was far too large, which is not waited for any longer; of those that were
    not measured several must have been. One of more records than the cap was planned under an older one, or
    rounded up by Spark: the cap did not make it so large."""
    told = batches[-1:] if batches and batches[-1].measured else batches[-AGREE:]
    if not told or (not told[-1].measured and len(told) < AGREE):
        return cap
    if any(each.bytes <= _FAR * bounds.bytes or each.records > cap for each in told):
        return cap
    # No more than half of the cap: that is what more than twice the bytes in no more records come to.
    return min(cap, max(_fitting(bounds, each.bytes / each.records) for each in told))


def cap_for_bytes(cap: int, batches: Sequence[Batch], bounds: Bounds) -> int:
    """`next_cap` of a query that is to be started again only where its batches may become too large."""
    return min(cap, next_cap(cap, batches, replace(bounds, seconds=inf)))


def cap_on_the_way_up(cap: int, batches: Sequence[Batch], bounds: Bounds) -> int:
    """`next_cap` of a query whose last change was to more, which may have been but a part of the way."""
    less = cap_for_bytes(cap, batches, bounds)
    return less if less != cap else max(cap, next_cap(cap, batches, bounds))


def cap_that_fits(cap: int, batches: Sequence[Batch], bounds: Bounds) -> int:
    """The cap that a sample would have given, for a query that is seldom to be started again: more by bytes
    alone, less at once or not at all."""
    if (less := cap_at_once(cap, batches, bounds)) != cap:
        return less
    return max(cap, next_cap(cap, batches, replace(bounds, seconds=inf)))


def cap_worth_its_state(cap: int, batches: Sequence[Batch], bounds: Bounds) -> int:
    """`cap_that_fits` of a query whose state is large: more only where it is many times more."""
    found = cap_that_fits(cap, batches, bounds)
    return cap if cap < found < cap * _WORTH_A_STATE else found


def _wanted(cap: int, batch: Batch, bounds: Bounds) -> int:
    """The cap that one batch speaks for. One that is not full, or had to wait for others, says nothing of
    time, and asks for no more."""
    fitting = _fitting(bounds, batch.record_bytes)
    if not is_full(cap, batch) or not batch.timed:
        return min(cap, fitting)
    in_time = batch.records * bounds.seconds / batch.seconds if batch.seconds > 0 else fitting
    if batch.seconds * cap < bounds.seconds * batch.records:
        # Most of a short batch's time may be the same for a larger one: twice as many take at most twice as
        # long, which is less than what makes them fewer again.
        in_time = max(in_time, _FAR * cap)
    least = min(cap, fitting // _LEAST_BY_TIME)
    # Up, so that a small number is not halved by what is lost of it.
    return max(1, least, ceil(min(fitting, in_time)))


def _fitting(bounds: Bounds, record_bytes: float) -> int:
    return max(1, min(bounds.records, int(bounds.bytes / max(record_bytes, 1.0))))
