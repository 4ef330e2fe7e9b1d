"""What a driver reports: its status file, and what each query last did."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from headgate.batches.caps import Ended, Told
from headgate.checkpoints.layout import RECORDS
from headgate.streams.model import DriverStatus, QueryProgress

if TYPE_CHECKING:
    from py4j.java_gateway import JavaObject

    from spark.metrics import DriverMetrics

_log = logging.getLogger("headgate.driver")

__all__ = ["ProgressListener", "StatusFile", "offsets_read"]


_FRESH_SECONDS = 5.0


class StatusFile:
    """`status.json`, replaced atomically on each change; readers never see half of one.

    A driver that was fenced leaves the file to the newer incarnation, whose it is.
    """

    def __init__(self, path: Path, status: DriverStatus) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._status = status
        self._waited_at = 0.0  # when a batch last began or ceased to wait

    @property
    def status(self) -> DriverStatus:
        return self._status

    def take_over(self) -> None:
        """Write over whatever is there: who has just claimed the checkpoint is the newest incarnation.

        A file with a higher epoch is left from a history that was wiped.
        """
        with self._lock:
            self._write(whatever=True)

    def change(self, **changes: Any) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)
            self._write()

    def query(self, name: str, change: Callable[[QueryProgress], QueryProgress]) -> None:
        with self._lock:
            before = self._status.queries.get(name, QueryProgress())
            queries = {**self._status.queries, name: change(before)}
            self._status = replace(self._status, queries=queries)
            self._write()

    def refresh(self) -> None:
        """Whoever reads it takes a report that is old for a driver that hangs."""
        if time.time() - self._status.written_at > _FRESH_SECONDS:
            self.change()

    def waiting(self, service: str | None) -> None:
        """Note what a batch waits for. Written when it changes, and logged once."""
        if service == self._status.waiting_for:
            return
        self._waited_at = time.time()
        if service is not None and self._status.waiting_for is None:
            _log.warning("the batch waits for %s", service)
        elif service is None:
            _log.info("the batch goes on, it has waited for %s", self._status.waiting_for)
        self.change(waiting_for=service)

    def waited_since(self, moment: float) -> bool:
        """Whether a batch has waited for a service at that moment or later."""
        return self._status.waiting_for is not None or self._waited_at >= moment

    def _write(self, *, whatever: bool = False) -> None:
        self._status = replace(self._status, written_at=time.time())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not whatever and self._newer_epoch():
            return
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        draft.write_text(json.dumps(self._status.to_json()), encoding="utf-8")
        draft.replace(self._path)

    def _newer_epoch(self) -> bool:
        try:
            return int(json.loads(self._path.read_text(encoding="utf-8"))["epoch"]) > self._status.epoch
        except (OSError, ValueError, KeyError, TypeError):
            return False  # none, or one that nobody can use


class ProgressListener:
    """Runs in the driver on Py4J's thread: short, and it never raises for a field that is missing.

    It implements Spark's Java interface itself. PySpark's listener would first rebuild every event as
    Python objects, in some hundred calls to the JVM, for every batch.
    """

    def __init__(
        self,
        names: Mapping[str, str],
        status: StatusFile,
        metrics: DriverMetrics,
        ended: Callable[[str, Told], Ended],
    ) -> None:
        self._names = names  # Spark's ids of a query and of its run to headgate's name
        self._status = status
        self._metrics = metrics
        self._ended = ended  # told of each batch of a query

    def started(self, name: str) -> None:
        """A run of the query has begun."""
        self._status.query(name, lambda before: replace(before, active=True, begun_at=time.time()))
        self._metrics.begun(name)

    def lost(self, name: str) -> None:
        """The query does not run, and nobody asked for that."""
        self._status.query(name, lambda before: replace(before, active=False))
        self._metrics.ended(name)

    class Java:
        implements: ClassVar = ["org.apache.spark.sql.streaming.PythonStreamingQueryListener"]

    @property
    def _jlistener(self) -> Any:
        """What `spark.streams.addListener` hands to Spark."""
        from pyspark import SparkContext

        return SparkContext._jvm.PythonStreamingQueryListenerWrapper(self)

    def onQueryStarted(self, event: JavaObject) -> None:
        del event  # a query's name is known once `start` has returned

    def onQueryProgress(self, event: JavaObject) -> None:
        progress = json.loads(event.progress().json())
        name = self._names.get(progress["id"])
        if name is None:
            return
        late = sum(op.get("numRowsDroppedByWatermark", 0) for op in progress["stateOperators"])
        self._status.query(name, lambda before: _after(name, before, progress, late))
        now = self._status.status.queries[name]
        self._metrics.progress(name, now, late)
        # The record query may read a batch twice, and knows its records better than Spark's count of rows.
        read = offsets_read(progress, rows=name != RECORDS)
        waited = self._status.waited_since(datetime.fromisoformat(progress["timestamp"]).timestamp())
        told = Told(progress["runId"], progress["batchId"], read, now.batch_seconds, now.state_bytes, waited)
        self._metrics.batch(name, self._ended(name, told))

    def onQueryIdle(self, event: JavaObject) -> None:
        # By its run: that an earlier one was idle is told late, and is no sign of the one that runs.
        name = self._names.get(event.runId().toString())
        if name is None:
            return
        now = time.time()
        self._status.query(name, lambda before: replace(before, last_idle_at=now, rows_per_second=0.0))
        self._metrics.idle(name, now)

    def onQueryTerminated(self, event: JavaObject) -> None:
        # By its run: the end of a batch that ran again by itself is told late, and is not the query's.
        name = self._names.get(event.runId().toString())
        if name is not None:
            self.lost(name)


def _after(name: str, before: QueryProgress, progress: Mapping[str, Any], late: int) -> QueryProgress:
    """A query's progress after one of Spark's progress events."""
    now = time.time()
    duration = progress.get("durationMs", {}).get("triggerExecution", 0) / 1000
    operators = progress["stateOperators"]
    watermark = progress.get("eventTime", {}).get("watermark")
    # The record query may read a batch twice, so its rows come from the books.
    rows = sum(source.get("numInputRows", 0) for source in progress["sources"])
    rows = before.rows if name == RECORDS else rows
    return replace(
        before,
        batch_id=progress["batchId"],
        batches=before.batches + 1,
        last_commit_at=now,
        last_progress_at=now,
        rows=rows,
        rows_per_second=rows / duration if duration else 0.0,
        batch_seconds=duration,
        watermark=_seconds(watermark) or before.watermark,
        state_rows=sum(op["numRowsTotal"] for op in operators),
        state_bytes=sum(op["memoryUsedBytes"] for op in operators),
        late_groups=before.late_groups + late,
        active=True,
    )


def offsets_read(progress: Mapping[str, Any], *, rows: bool) -> dict[str, int]:
    """Topic to the offsets of a batch. Where a topic begins is not told of the first batch there is of it:
    its `rows` stand for them, or nothing does."""
    found: dict[str, int] = {}
    for source in progress["sources"]:
        begins, ends = source.get("startOffset"), source.get("endOffset") or {}
        for topic, numbers in ends.items():
            if begins is not None:
                before = begins.get(topic, {})
                offsets = sum(end - before.get(number, end) for number, end in numbers.items())
            elif rows:
                offsets = source.get("numInputRows", 0)
            else:
                continue
            found[topic] = max(found.get(topic, 0), offsets)
    return found


def _seconds(moment: str | None) -> float | None:
    """Spark's `2026-01-01T00:00:00.000Z` as Unix seconds; its epoch means that there is none yet."""
    if not moment:
        return None
    value = datetime.fromisoformat(moment).timestamp()
    return value if value > 0 else None
