"""The caps of a driver's queries: from a sample when it starts, from what its batches were while it runs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headgate.batches.bounds import bounds_of, heap_bytes
from headgate.batches.cap import (
    AGREE,
    Batch,
    cap_at_once,
    cap_for_bytes,
    cap_on_the_way_up,
    cap_that_fits,
    cap_worth_its_state,
    first_cap,
    guessed_cap,
    is_full,
    next_cap,
)
from headgate.checkpoints.layout import RECORDS
from headgate.contract.frozen import FrozenContract

__all__ = ["BatchCaps", "Ended", "Told"]

# What was measured before counts as so much of a batch's bytes, at most. A batch of a few odd records hardly
# changes a mean that rests on so much; one that is nearly full does at once.
_SHARE_REMEMBERED = 8
# After a start with other caps, until the next one in the other direction: batches of two kinds by turns
# would otherwise have a query start again and again. Less for bytes does not wait.
_REST_SECONDS = 300.0
# Of the heap: what a second copy of a query's state may take of it for little reason.
_SHARE_OF_STATE = 4
_MEASURED = 16  # batches that were measured and of which nothing else is known yet


@dataclass(frozen=True, slots=True)
class _Measured:
    """`offsets` is what Spark counts: at least as many as records, and more where some have none."""

    offsets: float
    bytes: float

    @property
    def mean(self) -> float:
        return self.bytes / self.offsets


@dataclass(frozen=True, slots=True)
class _Counted:
    records: int
    bytes: int
    elsewhere: bool
    waited: bool


@dataclass(frozen=True, slots=True)
class Told:
    """What Spark tells of a batch that a run of a query has committed: the offsets of each topic, how long it
    took, whether it `waited` meanwhile for a service, and what the query's state takes in memory since."""

    run: str
    batch_id: int
    offsets: Mapping[str, int]
    seconds: float
    state_bytes: int = 0
    waited: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """What that batch was. `bytes` is None as long as no record was measured."""

    bytes: int | None
    cap: int


class BatchCaps:
    """The record query reads all topics, and it alone measures: the queries of outputs read the same records.
    Every thread may call.

    The state of a query's earlier run stays in memory beside its own until Spark's maintenance finds it. So a
    query with much state starts again for batches that are far too large or far too small, and never for
    time.
    """

    def __init__(
        self,
        frozen: FrozenContract,
        master: str = "local",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topics = dict(frozen.topics)
        self._partitions = {name: source.partitions for name, source in frozen.contract.sources.items()}
        self._bounds = bounds_of(frozen.contract, master)
        self._small_state = heap_bytes(frozen.contract.job, master) // _SHARE_OF_STATE
        self._queries = (RECORDS, *frozen.stateful_outputs)
        self._clock = clock
        self._lately: dict[str, _Measured] = {}  # by source
        self._counted: dict[int, dict[str, _Counted]] = {}  # by batch and source
        self._caps: dict[str, Mapping[str, int]] = {}
        self._batches: dict[tuple[str, str], deque[Batch]] = {}
        self._states: dict[str, int] = {}  # query to the bytes of its state
        self._rests: dict[str, float] = {}  # query to the time until which it does not turn back
        self._grew: dict[str, bool] = {}  # whether its last change was to more
        self._over: set[str] = set()  # runs that another one of their query has followed
        self._lock = threading.Lock()
        self.sampled(dict.fromkeys(self._topics.values()))

    def sampled(self, sizes: Mapping[str, float | None], before: Mapping[str, float] | None = None) -> None:
        """Before the first batch: the mean bytes of each topic's offsets, None of one without records. Of a
        topic that is not among them counts what was measured `before`, by another driver. Where nobody knows,
        its records are taken for large ones."""
        first = {}
        self._lately = {}
        for name, topic in self._topics.items():
            mean = sizes.get(topic)
            if mean is None:
                mean = (before or {}).get(topic)
            if mean is not None:
                self._lately[name] = _Measured(1.0, mean)
            if mean is not None or topic in sizes:
                first[name] = first_cap(self._bounds, mean)
            else:
                first[name] = guessed_cap(self._bounds, self._partitions[name])
        self._caps = dict.fromkeys(self._queries, first)

    def sizes(self) -> dict[str, float]:
        """Topic to the mean bytes of its offsets, lately."""
        with self._lock:
            return {self._topics[source]: lately.mean for source, lately in self._lately.items()}

    def of(self, query: str) -> Mapping[str, int]:
        """Source to records of a batch."""
        return self._caps[query]

    def behind(self, query: str) -> bool:
        """Whether its last batch was full, so that there is more to read."""
        with self._lock:
            return any(
                is_full(self._caps[name][source], batches[-1])
                for (name, source), batches in self._batches.items()
                if name == query and batches
            )

    def measured(
        self,
        source: str,
        batch_id: int,
        records: int,
        size: int,
        *,
        elsewhere: bool = False,
        waited: bool = False,
    ) -> None:
        """So many records of a batch of the record query had so many bytes of keys and values. `elsewhere`:
        the tasks of another query have read them; it may have `waited` for these in vain, too."""
        with self._lock:
            self._counted.setdefault(batch_id, {})[source] = _Counted(records, size, elsewhere, waited)
            while len(self._counted) > _MEASURED:
                del self._counted[min(self._counted)]

    def ended(self, query: str, told: Told) -> Ended:
        """Where the record query's offsets are not told, its records stand for them."""
        total = None
        with self._lock:
            self._states[query] = told.state_bytes
            counted = self._counted.pop(told.batch_id, {}) if query == RECORDS else {}
            for source, topic in self._topics.items():
                count = counted.get(source)
                offsets = max(told.offsets.get(topic, 0), count.records if count else 0)
                if count is not None:
                    self._learn(source, offsets, count.bytes)
                batch = self._batch(source, offsets, count, told)
                if batch is None:
                    continue
                total = (total or 0) + batch.bytes
                # What an earlier run did may be told late, and says nothing of the caps since.
                if batch.records and told.run not in self._over:
                    self._batches.setdefault((query, source), deque(maxlen=AGREE)).append(batch)
        return Ended(total, sum(self._caps[query].values()))

    def _learn(self, source: str, offsets: int, size: int) -> None:
        if not offsets:
            return
        before = self._lately.get(source, _Measured(0.0, 0.0))
        room = self._bounds.bytes / _SHARE_REMEMBERED
        part = min(1.0, room / before.bytes) if before.bytes else 1.0
        self._lately[source] = _Measured(before.offsets * part + offsets, before.bytes * part + size)

    def _batch(self, source: str, offsets: int, count: _Counted | None, told: Told) -> Batch | None:
        """None where nothing is known of the source's records."""
        lately = self._lately.get(source)
        if lately is None:
            return None
        if count is None:
            guess = round(offsets * lately.mean)
            return Batch(offsets, guess, lately.mean, told.seconds, measured=False, timed=not told.waited)
        # What others have read took no time of its own, and a larger batch would take none either.
        seconds = 0.0 if count.elsewhere else told.seconds
        timed = not (told.waited or count.waited) or count.elsewhere
        return Batch(offsets, count.bytes, lately.mean, seconds, timed=timed)

    def due(self, query: str) -> Mapping[str, int] | None:
        """The caps that a query is to be started with again, or None where those that it has are right."""
        with self._lock:
            before = self._caps[query]
            following = self._rule(query)
            after = {
                source: following(cap, tuple(self._batches.get((query, source), ())), self._bounds)
                for source, cap in before.items()
            }
        return after if after != before else None

    def _rule(self, query: str) -> Callable[..., int]:
        rests = self._clock() < self._rests.get(query, 0.0)
        if query == RECORDS and rests:
            return cap_on_the_way_up if self._grew[query] else cap_for_bytes
        if query == RECORDS:
            return next_cap
        if rests:
            return cap_at_once
        return cap_that_fits if self._states.get(query, 0) <= self._small_state else cap_worth_its_state

    def take(self, query: str, caps: Mapping[str, int], run: str) -> None:
        """From now on; what its batches were before says nothing of these. `run` is the one that ended."""
        with self._lock:
            self._grew[query] = all(cap >= self._caps[query][source] for source, cap in caps.items())
            self._caps[query] = dict(caps)
            self._rests[query] = self._clock() + _REST_SECONDS
            self._over.add(run)
            for source in caps:
                self._batches.pop((query, source), None)
