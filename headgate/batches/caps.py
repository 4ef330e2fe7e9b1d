"""The caps of a driver's queries: from a sample when it starts, from what its batches were while it runs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from headgate.batches.bounds import bounds_of
from headgate.batches.cap import AGREE, Batch, first_cap, next_cap
from headgate.checkpoints.layout import RECORDS
from headgate.contract.frozen import FrozenContract

__all__ = ["BatchCaps", "Ended"]

# What was measured before counts as so much of a batch's bytes, at most. A batch of a few odd records hardly
# changes a mean that rests on so much; one that is nearly full does at once.
_SHARE_REMEMBERED = 8


@dataclass(frozen=True, slots=True)
class _Measured:
    records: float
    bytes: float

    @property
    def mean(self) -> float:
        return self.bytes / self.records


@dataclass(frozen=True, slots=True)
class Ended:
    """A batch that a query has committed. `bytes` is None as long as no record was measured."""

    bytes: int | None
    cap: int


class BatchCaps:
    """The record query reads all topics, and it alone measures: the queries of outputs read the same records.
    Every thread may call.
    """

    def __init__(self, frozen: FrozenContract) -> None:
        self._topics = dict(frozen.topics)
        self._bounds = bounds_of(frozen.contract)
        self._queries = (RECORDS, *frozen.stateful_outputs)
        self._lately: dict[str, _Measured] = {}  # by source
        self._newest: dict[str, _Measured] = {}  # the record query's newest batch
        self._caps: dict[str, Mapping[str, int]] = {}
        self._batches: dict[tuple[str, str], deque[Batch]] = {}
        self._lock = threading.Lock()
        self.sampled({})

    def sampled(self, sizes: Mapping[str, float]) -> None:
        """Before the first batch: the mean bytes of each topic's newest records, where there are any."""
        known = {name: sizes[topic] for name, topic in self._topics.items() if topic in sizes}
        self._lately = {name: _Measured(1.0, mean) for name, mean in known.items()}
        first = {name: first_cap(self._bounds, known.get(name)) for name in self._topics}
        self._caps = dict.fromkeys(self._queries, first)

    def of(self, query: str) -> Mapping[str, int]:
        """Source to records of a batch."""
        return self._caps[query]

    def measured(self, source: str, records: int, size: int) -> None:
        """So many records had so many bytes of keys and values."""
        if not records:
            return
        with self._lock:
            self._newest[source] = _Measured(records, size)
            before = self._lately.get(source, _Measured(0.0, 0.0))
            room = self._bounds.bytes / _SHARE_REMEMBERED
            part = min(1.0, room / before.bytes) if before.bytes else 1.0
            self._lately[source] = _Measured(before.records * part + records, before.bytes * part + size)

    def ended(self, query: str, read: Mapping[str, int], seconds: float) -> Ended:
        """A query has committed a batch with so many records of each topic."""
        total = None
        with self._lock:
            for source, topic in self._topics.items():
                batch = self._batch(query, source, read.get(topic, 0), seconds)
                if batch is None:
                    continue
                total = (total or 0) + batch.bytes
                if batch.records:
                    self._batches.setdefault((query, source), deque(maxlen=AGREE)).append(batch)
        return Ended(total, sum(self._caps[query].values()))

    def _batch(self, query: str, source: str, records: int, seconds: float) -> Batch | None:
        """None where nothing is known of the source's records."""
        lately, newest = self._lately.get(source), self._newest.get(source)
        if lately is None:
            return None
        if query == RECORDS and newest is not None and newest.records == records:
            return Batch(records, round(newest.bytes), lately.mean, seconds)
        return Batch(records, round(records * lately.mean), lately.mean, seconds)

    def due(self, query: str) -> Mapping[str, int] | None:
        """The caps that a query is to be started with again, or None where those that it has are right."""
        with self._lock:
            before = self._caps[query]
            after = {
                source: next_cap(cap, tuple(self._batches.get((query, source), ())), self._bounds)
                for source, cap in before.items()
            }
        return after if after != before else None

    def take(self, query: str, caps: Mapping[str, int]) -> None:
        """From now on; what its batches were before says nothing of these."""
        with self._lock:
            self._caps[query] = dict(caps)
            for source in caps:
                self._batches.pop((query, source), None)
