"""The stop gate: a batch that runs is committed, the next one does not begin.

*Returning* from foreachBatch would commit a batch that was never written, so the gate raises.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Collection
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery

__all__ = ["StopGate", "StopRequestedError", "drain", "end_with"]


class StopRequestedError(Exception):
    """Raised at the first line of a batch after a stop was asked for. Spark logs it as its query's error."""

    def __init__(self, told: str = "no fault: the query was to end before this batch") -> None:
        super().__init__(told)


class StopGate:
    def __init__(self) -> None:
        self._asked = threading.Event()

    def install(self) -> None:
        """Close the gate on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked.set()

    @property
    def closed(self) -> bool:
        return self._asked.is_set()

    def close(self) -> None:
        self._asked.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the gate to close; whether it is."""
        return self._asked.wait(seconds)

    def check(self) -> None:
        if self._asked.is_set():
            raise StopRequestedError


def drain(queries: Collection[StreamingQuery]) -> None:
    """Every query ends behind the gate, or is stopped while it waits for its next trigger."""
    while any(query.isActive for query in queries):
        for query in queries:
            if query.isActive and not query.status["isTriggerActive"]:
                query.stop()
        time.sleep(0.05)


def end_with(verdict: Exception, gate: StopGate, queries: Collection[StreamingQuery]) -> NoReturn:
    """Raise a verdict once what runs is committed, so that a start goes on with the next batch. A query that
    fails meanwhile does not change it: told as that failure, the stream would be started again."""
    gate.close()
    try:
        drain(queries)
    except Exception as error:
        raise verdict from error
    raise verdict
