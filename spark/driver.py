"""One incarnation of a driver, from its claim to the end of its queries: the order of steps."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate import failpoints
from headgate.checkpoints.books import Page
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import Lineage, note_contract, note_query
from headgate.checkpoints.logs import batch_watermark
from headgate.checkpoints.owner import FencedError, OwnerClaim
from headgate.checkpoints.restore import redo_folder
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.contract.model import seconds
from headgate.errors import HeadgateError
from headgate.formats.desk import SchemaDesk, open_desk
from headgate.settings import Settings
from headgate.streams.poison import PoisonWatch
from serving.results import ResultStore
from spark.context import DriverContext
from spark.failure import Failure, failure_of
from spark.generation import begin_generation
from spark.incarnation import Order, run_incarnation
from spark.progress import DriverMetrics, ProgressListener, StatusFile
from spark.redo import redo
from spark.shared import SharedScreening, shared_screening
from spark.starts import query_starts
from spark.stop import StopGate, StopRequestedError, drain
from spark.tasks import TaskWatch

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from headgate.formats.decoder import Writers
    from spark.source import Starts

__all__ = ["Driver", "run_driver"]

_log = logging.getLogger("headgate.driver")


def run_driver(settings: Settings, order: Order) -> int:
    """Run until stopped, fenced or failed; the exit code."""
    report = settings.state / "streams" / order.pipeline / "status.json"
    return run_incarnation(order, report, lambda gate, status: Driver(settings, order, gate, status))


class Driver:
    """Of a live stream. Where a replay is another, it overrides a step."""

    done = False  # whether it has come to an end of its own
    shares = True  # whether one query may judge for another, too

    def __init__(self, settings: Settings, order: Order, gate: StopGate, status: StatusFile) -> None:
        self._settings = settings
        self._order = order
        self._gate = gate
        self._status = status
        self._queries: dict[str, StreamingQuery] = {}
        self._spark: SparkSession | None = None
        self._tasks: TaskWatch | None = None
        self._claim: OwnerClaim | None = None
        self._desk: SchemaDesk | None = None
        self._writers: Mapping[str, Writers] = {}  # what finds the schemas of records, by source
        self._poison: PoisonWatch | None = None
        self._shared: SharedScreening | None = None
        self.first_failure: Failure | None = None
        self.failed_query: str | None = None

    def start(self) -> None:
        import pyspark

        order, settings = self._order, self._settings
        failpoints.arm(settings, order.epoch)
        self._status.change()
        frozen = ContractStore(settings.state).get(order.contract_hash)
        layout = CheckpointLayout(settings.checkpoints, order.pipeline)
        claim = OwnerClaim(layout.owners, order.epoch)
        self._claim = claim
        claim.take({"pid": os.getpid(), "generation": order.generation, "at": time.time()})
        self._status.take_over()
        lineage = self._settle(frozen, claim, pyspark.__version__)
        self._status.change(lineage=lineage.id)
        self._open_desk(frozen, layout.schemas(lineage.id, frozen.hash))
        context = DriverContext(
            settings=settings,
            frozen=frozen,
            layout=layout,
            lineage=lineage,
            generation=order.generation,
            epoch=order.epoch,
            claim=claim,
            gate=self._gate,
            results=self._results(frozen),
            waiting=self._status.waiting,
            writers=self._writers,
        )
        self._begin(context, pyspark.__version__)

    def _settle(self, frozen: FrozenContract, claim: OwnerClaim, spark_version: str) -> Lineage:
        return begin_generation(self._settings, frozen, self._order, claim, spark_version)

    def _open_desk(self, frozen: FrozenContract, kept: Path) -> None:
        gate, status = self._gate, self._status
        self._desk = open_desk(
            self._settings, frozen.contract, kept, stopping=gate.wait, waiting=status.waiting
        )
        self._writers = self._desk.askers if self._desk is not None else {}

    def _results(self, frozen: FrozenContract) -> ResultStore | None:
        return ResultStore.from_settings(self._settings) if _uses_redis(frozen) else None

    def _begin(self, context: DriverContext, spark_version: str) -> None:
        from spark.session import build_session

        job = context.frozen.contract.job
        spark = self._spark = build_session(self._settings, job, f"headgate {self._order.pipeline}")
        names: dict[str, str] = {}
        metrics = DriverMetrics(context.frozen, [RECORDS, *context.frozen.stateful_outputs], spark_version)
        spark.streams.addListener(ProgressListener(names, self._status, metrics))
        for name, query in self._start_queries(spark, context, metrics):
            self._queries[name] = query
            names[str(query.id)] = names[str(query.runId)] = name
            metrics.active(name, True)
            self._status.query(name, lambda before: before)
        self._tasks = TaskWatch(spark.sparkContext.statusTracker(), self._status, metrics.task)
        self._status.change(
            phase="running", metrics_port=self._serve(metrics), ui_url=spark.sparkContext.uiWebUrl
        )
        _log.info("running %s, epoch %d, lineage %s", self._order.pipeline, context.epoch, context.lineage.id)

    def _serve(self, metrics: DriverMetrics) -> int | None:
        return metrics.serve()

    def _start_queries(
        self, spark: SparkSession, context: DriverContext, metrics: DriverMetrics
    ) -> list[tuple[str, StreamingQuery]]:
        from spark.lane import lane_of
        from spark.window import StatefulQuery

        frozen = context.frozen

        def counted(page: Page) -> None:
            metrics.count(page)
            self._status.query(RECORDS, lambda before: replace(before, rows=page.batch.read))
            poison.note(page.batch, records.example, time.monotonic())

        poison = self._poison = PoisonWatch(frozen.pipeline, frozen.contract.job)
        self._shared = shared_screening(context) if self.shares else None
        records = lane_of(context, counted, self._status, self._shared)
        starts = query_starts(self._settings, frozen, context.lineage)
        started = []
        if self._wanted(RECORDS):
            raw = self._records(spark, frozen, starts.get(RECORDS, {}))
            frame = records.frame(raw)
            started.append((RECORDS, self._query(context, RECORDS, frame, records.commit, "append")))
        for output in filter(self._wanted, frozen.stateful_outputs):
            folder = context.layout.query(context.lineage.id, output)
            commit = StatefulQuery(context, output, partial(batch_watermark, folder))
            frame = self._changes(spark, frozen, output, starts.get(output, {}))
            mode = frozen.contract.outputs[output].mode
            started.append((output, self._query(context, output, frame, commit, mode)))
        return started

    def _wanted(self, query: str) -> bool:
        """Whether a query has something to do."""
        del query
        return True

    def _records(self, spark: SparkSession, frozen: FrozenContract, starts: Starts) -> DataFrame:
        from spark.source import read_all

        return read_all(spark, self._settings, frozen, starts)

    def _changes(self, spark: SparkSession, frozen: FrozenContract, output: str, starts: Starts) -> DataFrame:
        from spark.window import stateful_frame

        notes = self._shared.notes_of(output) if self._shared is not None else None
        settings, writers = self._settings, self._writers
        return stateful_frame(spark, settings, frozen, output, starts, writers=writers, notes=notes)

    def _query(
        self, context: DriverContext, name: str, frame: DataFrame, commit: Any, mode: str
    ) -> StreamingQuery:
        def guarded(batch: DataFrame, batch_id: int) -> None:
            # Spark wraps what is raised here in text; the first failure is kept as it was.
            try:
                self._before(name)
                commit(batch, batch_id)
            except StopRequestedError:
                raise
            except Exception as error:
                if self.first_failure is None:
                    self.first_failure, self.failed_query = failure_of(error), name
                raise

        note_contract(context.layout, context.lineage.id, name, context.frozen.hash)
        folder = context.layout.query(context.lineage.id, name)
        writer = (
            frame.writeStream.queryName(f"{context.frozen.pipeline}.{name}")
            .foreachBatch(guarded)
            .outputMode(mode)
            .option("checkpointLocation", str(folder))
        )
        again = redo_folder(context.layout.lineage(context.lineage.id), name)
        redo(again, folder, lambda: self._one_batch(writer.trigger(once=True).start()))
        query = self._triggered(writer, context.frozen).start()
        note_query(context.layout, context.lineage.id, name, str(query.id))
        return query

    def _before(self, query: str) -> None:
        """Ahead of each batch of a query; what is raised here ends it."""

    def _triggered(self, writer: DataStreamWriter, frozen: FrozenContract) -> DataStreamWriter:
        interval = round(seconds(frozen.contract.job.trigger) * 1000)
        return writer.trigger(processingTime=f"{interval} milliseconds")

    def _one_batch(self, query: StreamingQuery) -> None:
        """Wait for a batch that runs again. Raises StopRequestedError when a stop ended it."""
        while query.isActive:
            time.sleep(0.05)  # `awaitTermination` would raise before the gate is looked at
            if time.time() - self._status.status.written_at > 5:
                self._status.change()
        if (error := query.exception()) is not None:
            self._gate.check()
            raise error

    def watch(self) -> None:
        """Wait for a stop or the end of a query. A stream is as healthy as its worst query."""
        assert self._tasks is not None, "the queries have been started"
        while not self._gate.wait(0.5):
            failpoints.hit(failpoints.WATCH)
            self._raise_if_poisoned()
            self._raise_if_ended()
            self._check_claim()
            self._tasks.look(self._queries, time.time())
            if time.time() - self._status.status.written_at > 5:
                self._status.change()
        _log.info("a stop was asked for: running batches are committed, no new one begins")
        self._status.change(phase="stopping")
        drain(self._queries.values())

    def fenced(self) -> Failure | None:
        """Whether a newer epoch exists. What else an old driver meets, a lost race for a file of Spark or
        Delta above all, follows from that, and must not be read as a failure of the stream."""
        try:
            self._check_claim()
        except FencedError as error:
            return failure_of(error)
        except OSError:
            _log.exception("the claims cannot be looked at")
        return None

    def _check_claim(self) -> None:
        """Also between batches: a driver without input would never learn that it was replaced."""
        if self._claim is not None:
            self._claim.check()

    def _raise_if_ended(self) -> None:
        for name, query in self._queries.items():
            if not query.isActive and not self._gate.closed:
                error = query.exception()
                self.failed_query = self.failed_query or name
                self._gate.close()
                drain(self._queries.values())
                raise error or HeadgateError(f"query {name} ended, and nobody asked it to")

    def _raise_if_poisoned(self) -> None:
        """What runs is committed first, so that a start goes on with the next batch. A query that fails
        meanwhile does not change the verdict: told as that failure, the stream would be started again."""
        verdict = self._poison.verdict if self._poison is not None else None
        if verdict is None:
            return
        self._gate.close()
        try:
            drain(self._queries.values())
        except Exception as error:
            raise verdict from error
        raise verdict

    def close(self) -> None:
        if self._spark is not None:
            self._spark.stop()
        if self._desk is not None:
            self._desk.close()


def _uses_redis(frozen: FrozenContract) -> bool:
    return any(t.redis for output in frozen.contract.outputs.values() for t in output.to)
