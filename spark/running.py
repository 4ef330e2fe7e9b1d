"""The queries of a driver: started, and started again with batches of another size.

Spark takes the number of records of a batch when a query starts, and has no other way to change it. So a
query that is to have another one is asked to end as a stop ends it: the batch that runs is committed, and the
next one does not begin. If Spark has already planned that next one, it is in the offset log, and is the first
that runs again, as large as it was planned. Everything else of the driver goes on meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from spark.stop import StopRequestedError

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

    from headgate.batches.caps import BatchCaps
    from spark.progress import ProgressListener

__all__ = ["RunningQueries"]

_log = logging.getLogger("headgate.driver")


class RunningQueries:
    """`begins` starts each query with the caps of that moment. `names` gets Spark's ids of a query and of its
    run, and `told` is told of each start, and of one that failed."""

    def __init__(
        self,
        begins: Mapping[str, Callable[[], StreamingQuery]],
        caps: BatchCaps,
        names: dict[str, str],
        told: ProgressListener,
    ) -> None:
        self.queries: dict[str, StreamingQuery] = {}
        self._begins = begins
        self._caps = caps
        self._names = names
        self._told = told
        self.restarting: str | None = None  # the query that `look` is at, also where that has failed
        self._asked: set[str] = set()  # queries that are to end and start again
        self._held: set[str] = set()  # those of them whose next batch was refused
        self._lock = threading.Lock()

    def start(self) -> None:
        for name in self._begins:
            self._start(name)

    def before_batch(self, query: str) -> None:
        """Ahead of each batch, on the thread that runs it. Raises StopRequestedError to end the query there:
        what the batch was to read, it reads after the start."""
        with self._lock:
            if query not in self._asked:
                return
            self._held.add(query)
        self._disown(self.queries[query])
        raise StopRequestedError

    def under_way(self, query: str) -> bool:
        """Whether the end of a query may be what was asked of it."""
        return query in self._asked

    def look(self) -> None:
        """Go on by a step with each query that needs another cap. It never waits for a batch. What it raises
        leaves `restarting` without a query that runs."""
        for name, query in list(self.queries.items()):
            if name in self._asked:
                self._go_on(name, query)
            elif query.isActive and (caps := self._caps.due(name)) is not None:
                change = _change(self._caps.of(name), caps)
                _log.info("query %s ends after its batch and starts again with batches of %s", name, change)
                self._asked.add(name)

    def _go_on(self, name: str, query: StreamingQuery) -> None:
        if query.isActive:
            # A batch that begins now is refused before it has done anything.
            if not query.status["isTriggerActive"] and not self._withdrawn(name):
                self._again(name, query)
        elif name in self._held or query.exception() is None:
            self._again(name, query)
        else:
            self._forget(name)  # it has failed by itself, which is the driver's to tell

    def _withdrawn(self, name: str) -> bool:
        """Whether the batch that was waited for has made another cap needless."""
        if self._caps.due(name) is not None:
            return False
        with self._lock:
            if name in self._held:
                return False  # it ends all the same
            self._asked.discard(name)
        _log.info("query %s goes on as it is: its last batch was no reason for another size", name)
        return True

    def _again(self, name: str, query: StreamingQuery) -> None:
        began, self.restarting = time.monotonic(), name
        self._disown(query)
        query.stop()  # also of one that has ended: its thread may have a last thing to do
        if (caps := self._caps.due(name)) is not None:
            self._caps.take(name, caps, str(query.runId))
        self._forget(name)
        try:
            self._start(name)
        except Exception:
            self._told.lost(name)  # its last run's end was told to nobody
            raise
        self.restarting = None
        _log.info("query %s has started again in %.1f s", name, time.monotonic() - began)

    def _disown(self, query: StreamingQuery) -> None:
        """That this run has ended is told later, and is not the end of the query."""
        self._names.pop(str(query.runId), None)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._asked.discard(name)
            self._held.discard(name)

    def _start(self, name: str) -> None:
        most = ", ".join(f"{cap} records of {source}" for source, cap in sorted(self._caps.of(name).items()))
        _log.info("query %s begins, a batch has at most %s", name, most)
        query = self.queries[name] = self._begins[name]()
        self._names[str(query.id)] = self._names[str(query.runId)] = name
        self._told.started(name)


def _change(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    return ", ".join(f"{after[name]} records of {name} instead of {before[name]}" for name in sorted(after))
