"""One incarnation of a driver, from its claim to the end of its queries: the order of steps."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headgate import failpoints
from headgate.batches.caps import BatchCaps
from headgate.batches.sample import Reading
from headgate.checkpoints.books import Page
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import Lineage
from headgate.checkpoints.logs import batch_watermark
from headgate.checkpoints.owner import OwnerClaim
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.contract.model import seconds
from headgate.errors import HeadgateError
from headgate.formats.desk import SchemaDesk, open_desk
from headgate.settings import Settings
from headgate.streams.poison import PoisonWatch
from serving.results import ResultStore
from spark.begin import begin_query
from spark.context import DriverContext
from spark.failure import Failure, failure_of, fence_of
from spark.generation import begin_generation
from spark.incarnation import Order, run_incarnation
from spark.metrics import DriverMetrics
from spark.progress import ProgressListener, StatusFile
from spark.running import RunningQueries
from spark.shared import SharedScreening, shared_screening
from spark.sizes import RecordSizes
from spark.starts import query_starts, readings
from spark.stop import StopGate, StopRequestedError, drain, end_with
from spark.tasks import TaskWatch
from spark.unfinished import Commit, end_unfinished

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
        self._runs: RunningQueries | None = None
        self._sizes: RecordSizes | None = None
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
            caps=BatchCaps(frozen, settings.spark.master),
            writers=self._writers,
        )
        self._begin(context, pyspark.__version__)

    def _settle(self, frozen: FrozenContract, claim: OwnerClaim, spark_version: str) -> Lineage:
        return begin_generation(self._settings, frozen, self._order, claim, spark_version)

    def _open_desk(self, frozen: FrozenContract, kept: Path) -> None:
        self._desk = open_desk(
            self._settings, frozen.contract, kept, stopping=self._gate.wait, waiting=self._status.waiting
        )
        self._writers = self._desk.askers if self._desk is not None else {}

    def _results(self, frozen: FrozenContract) -> ResultStore | None:
        served = any(target.redis for output in frozen.contract.outputs.values() for target in output.to)
        return ResultStore.from_settings(self._settings) if served else None

    def _begin(self, context: DriverContext, spark_version: str) -> None:
        from spark.session import build_session

        frozen, title = context.frozen, f"headgate {self._order.pipeline}"
        spark = self._spark = build_session(self._settings, frozen.contract.job, title)
        starts = query_starts(self._settings, frozen, context.lineage)
        self._sizes = self._sized(context, partial(readings, frozen, context.layout, context.lineage, starts))
        names: dict[str, str] = {}
        metrics = DriverMetrics(frozen, [RECORDS, *frozen.stateful_outputs], spark_version)
        listener = ProgressListener(names, self._status, metrics, context.caps.ended)
        spark.streams.addListener(listener)
        begins = self._all_queries(spark, context, metrics, starts)
        self._sizes.settle()
        end_unfinished(spark, context, self._guarded, metrics.count, self._status)
        self._runs = RunningQueries(begins, context.caps, names, listener)
        self._queries = self._runs.queries
        self._runs.start()
        self._tasks = TaskWatch(spark.sparkContext.statusTracker(), self._status, metrics.task)
        ui = spark.sparkContext.uiWebUrl
        self._status.change(phase="running", metrics_port=self._serve(metrics), ui_url=ui)
        _log.info("running %s, epoch %d, lineage %s", self._order.pipeline, context.epoch, context.lineage.id)

    def _serve(self, metrics: DriverMetrics) -> int | None:
        return metrics.serve()

    def _sized(self, context: DriverContext, look: Callable[[], Mapping[str, Reading]]) -> RecordSizes:
        return RecordSizes(self._settings, context.frozen, context.caps, look, context.layout.sizes)

    def _all_queries(
        self,
        spark: SparkSession,
        context: DriverContext,
        metrics: DriverMetrics,
        starts: Mapping[str, Starts],
    ) -> dict[str, Callable[[], StreamingQuery]]:
        """What starts each query that has something to do."""
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

        def begin_records() -> StreamingQuery:
            frame = records.frame(self._records(spark, context, starts.get(RECORDS, {})))
            return self._query(context, RECORDS, frame.writeStream.outputMode("append"), records.commit)

        def begin_output(output: str) -> StreamingQuery:
            folder = context.layout.query(context.lineage.id, output)
            commit = StatefulQuery(context, output, partial(batch_watermark, folder))
            frame = self._changes(spark, context, output, starts.get(output, {}))
            writer = frame.writeStream.outputMode(frozen.contract.outputs[output].mode)
            return self._query(context, output, writer, commit)

        found = {RECORDS: begin_records}
        found |= {output: partial(begin_output, output) for output in frozen.stateful_outputs}
        return {name: begin for name, begin in found.items() if self._wanted(name)}

    def _wanted(self, query: str) -> bool:
        """Whether a query has something to do."""
        del query
        return True

    def _records(self, spark: SparkSession, context: DriverContext, starts: Starts) -> DataFrame:
        from spark.source import read_all

        return read_all(spark, self._settings, context.frozen, starts, caps=context.caps.of(RECORDS))

    def _changes(self, spark: SparkSession, context: DriverContext, output: str, starts: Starts) -> DataFrame:
        from spark.window import stateful_frame

        caps, writers = context.caps.of(output), self._writers
        notes = self._shared.notes_of(output) if self._shared is not None else None
        return stateful_frame(
            spark, self._settings, context.frozen, output, starts, caps=caps, writers=writers, notes=notes
        )

    def _query(
        self, context: DriverContext, name: str, writer: DataStreamWriter, commit: Commit
    ) -> StreamingQuery:
        ready = writer.foreachBatch(self._guarded(name, commit))
        return begin_query(context, self._status, name, ready, self._triggered)

    def _guarded(self, name: str, commit: Commit) -> Commit:
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

        return guarded

    def _before(self, query: str) -> None:
        """Ahead of each batch of a query; what is raised here ends it."""
        if self._runs is not None:
            self._runs.before_batch(query)

    def _triggered(self, writer: DataStreamWriter, frozen: FrozenContract) -> DataStreamWriter:
        interval = round(seconds(frozen.contract.job.trigger) * 1000)
        return writer.trigger(processingTime=f"{interval} milliseconds")

    def watch(self) -> None:
        """Wait for a stop or the end of a query. A stream is as healthy as its worst query."""
        assert self._tasks is not None and self._sizes is not None, "the queries have been started"
        while not self._gate.wait(0.5):
            failpoints.hit(failpoints.WATCH)
            self._raise_if_poisoned()
            self._start_again_if_due()
            self._raise_if_ended()
            self._check_claim()
            self._sizes.keep()
            if self._shared is not None:
                self._shared.tidy()
            self._tasks.look(self._queries, time.time())
            self._status.refresh()
        _log.info("a stop was asked for: running batches are committed, no new one begins")
        self._status.change(phase="stopping")
        drain(self._queries.values())

    def _start_again_if_due(self) -> None:
        """A query that cannot start again is one that failed; the others come to their end in order."""
        assert self._runs is not None, "the queries have been started"
        try:
            self._runs.look()
        except Exception as error:  # noqa: BLE001 - it is raised again
            # Not over what another query has failed of.
            if self.first_failure is None and not isinstance(error, StopRequestedError):
                self.first_failure, self.failed_query = failure_of(error), self._runs.restarting
            end_with(error, self._gate, self._queries.values())

    def fenced(self) -> Failure | None:
        return fence_of(self._check_claim)

    def _check_claim(self) -> None:
        """Also between batches: a driver without input would never learn that it was replaced."""
        if self._claim is not None:
            self._claim.check()

    def _raise_if_ended(self) -> None:
        assert self._runs is not None, "the queries have been started"
        for name, query in self._queries.items():
            if not query.isActive and not self._gate.closed and not self._runs.under_way(name):
                error = query.exception() or HeadgateError(f"query {name} ended, and nobody asked it to")
                self.failed_query = self.failed_query or name
                end_with(error, self._gate, self._queries.values())

    def _raise_if_poisoned(self) -> None:
        verdict = self._poison.verdict if self._poison is not None else None
        if verdict is not None:
            end_with(verdict, self._gate, self._queries.values())

    def close(self) -> None:
        if self._spark is not None:
            self._spark.stop()
        for each in (self._desk, self._shared):
            if each is not None:
                each.close()
