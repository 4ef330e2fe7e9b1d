"""One incarnation of a driver, from claim to exit: the order of steps, and what each way out means.

Exit codes: 0 stopped on request · 10 failed · 11 fenced · 12 refused to start. The reason is in
`status.json`, for the supervisor, and in the log, for people.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate import __version__, failpoints
from headgate.checkpoints.books import Page
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import note_contract
from headgate.checkpoints.logs import batch_watermark
from headgate.checkpoints.origin import read_origin
from headgate.checkpoints.owner import FencedError, OwnerClaim
from headgate.checkpoints.restore import redo_folder
from headgate.checkpoints.settling import settle_generation
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.contract.model import seconds
from headgate.errors import HeadgateError, RefusedError
from headgate.settings import Settings
from headgate.streams.failures import EXIT_FAILED, EXIT_FENCED, EXIT_REFUSED
from headgate.streams.model import DriverStatus
from serving.results import ResultStore
from spark.context import DriverContext
from spark.failure import Failure, failure_of
from spark.progress import DriverMetrics, ProgressListener, StatusFile
from spark.redo import redo
from spark.starts import query_starts
from spark.stop import StopGate, StopRequestedError
from spark.tasks import TaskWatch

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from spark.source import Starts

__all__ = ["Order", "run_driver"]

_log = logging.getLogger("headgate.driver")


@dataclass(frozen=True, slots=True)
class Order:
    """What the supervisor asks one incarnation to run."""

    pipeline: str
    contract_hash: str
    generation: int
    epoch: int
    origin: str | None = None  # the file that says where the generation begins


def run_driver(settings: Settings, order: Order) -> int:
    """Run until stopped, fenced or failed; the exit code."""
    gate = StopGate()
    gate.install()
    status = StatusFile(
        settings.state / "streams" / order.pipeline / "status.json",
        DriverStatus(
            stream=order.pipeline,
            pipeline=order.pipeline,
            epoch=order.epoch,
            generation=order.generation,
            contract_hash=order.contract_hash,
            lineage="",
            headgate_version=__version__,
            pid=os.getpid(),
            phase="starting",
            written_at=time.time(),
        ),
    )
    driver = _Driver(settings, order, gate, status)
    try:
        driver.start()
        driver.watch()
    except StopRequestedError:
        return _end(status, driver, 0, None)
    except FencedError as error:
        return _end(status, driver, EXIT_FENCED, failure_of(error))
    except RefusedError as error:
        return _end(status, driver, EXIT_REFUSED, failure_of(error))
    except Exception as error:  # noqa: BLE001 - the one place that catches: every way out is classified
        _log.exception("the driver failed")
        return _end(status, driver, EXIT_FAILED, driver.fenced() or driver.first_failure or failure_of(error))
    return _end(status, driver, 0, None)


def _end(status: StatusFile, driver: _Driver, code: int, failure: Failure | None) -> int:
    if failure is None:
        status.change(phase="stopped")
        _log.info("stopped on request; every batch that ran is committed")
    else:
        if failure.failure_class == "fenced":
            code = EXIT_FENCED
        status.change(
            phase="failed",
            failure_class=failure.failure_class,
            failure_condition=failure.condition,
            failure_message=failure.message,
        )
        _log.error("%s: %s", failure.failure_class, failure.message)
    driver.close()
    return code


class _Driver:
    def __init__(self, settings: Settings, order: Order, gate: StopGate, status: StatusFile) -> None:
        self._settings = settings
        self._order = order
        self._gate = gate
        self._status = status
        self._queries: dict[str, StreamingQuery] = {}
        self._spark: SparkSession | None = None
        self._tasks: TaskWatch | None = None
        self._claim: OwnerClaim | None = None
        self.first_failure: Failure | None = None

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
        lineage = settle_generation(
            settings,
            frozen,
            read_origin(Path(order.origin)) if order.origin else None,
            generation=order.generation,
            spark_version=pyspark.__version__,
            at=time.time(),
        )
        self._status.change(lineage=lineage.id)
        results = ResultStore.from_settings(settings) if _uses_redis(frozen) else None
        context = DriverContext(
            settings=settings,
            frozen=frozen,
            layout=layout,
            lineage=lineage,
            generation=order.generation,
            epoch=order.epoch,
            claim=claim,
            gate=self._gate,
            results=results,
            waiting=self._status.waiting,
        )
        self._begin(context, pyspark.__version__)

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
        self._status.change(phase="running", metrics_port=metrics.serve(), ui_url=spark.sparkContext.uiWebUrl)
        _log.info("running %s, epoch %d, lineage %s", self._order.pipeline, context.epoch, context.lineage.id)

    def _start_queries(
        self, spark: SparkSession, context: DriverContext, metrics: DriverMetrics
    ) -> list[tuple[str, StreamingQuery]]:
        from spark.lane import lane_of
        from spark.window import StatefulQuery, stateful_frame

        def counted(page: Page) -> None:
            metrics.count(page)
            self._status.query(RECORDS, lambda before: replace(before, rows=page.batch.read))

        frozen = context.frozen
        starts = query_starts(self._settings, frozen, context.lineage)
        raw = _all_sources(spark, self._settings, frozen, starts.get(RECORDS, {}))
        lane = lane_of(context, counted)
        started = [(RECORDS, self._query(context, RECORDS, lane.frame(raw), lane.commit, "append"))]
        for output in frozen.stateful_outputs:
            folder = context.layout.query(context.lineage.id, output)
            commit = StatefulQuery(context, output, partial(batch_watermark, folder))
            frame = stateful_frame(spark, self._settings, frozen, output, starts.get(output, {}))
            mode = frozen.contract.outputs[output].mode
            started.append((output, self._query(context, output, frame, commit, mode)))
        return started

    def _query(
        self, context: DriverContext, name: str, frame: DataFrame, commit: Any, mode: str
    ) -> StreamingQuery:
        def guarded(batch: DataFrame, batch_id: int) -> None:
            # Spark wraps what is raised here in text; the first failure is kept as it was.
            try:
                commit(batch, batch_id)
            except StopRequestedError:
                raise
            except Exception as error:
                if self.first_failure is None:
                    self.first_failure = failure_of(error)
                raise

        note_contract(context.layout, context.lineage.id, name, context.frozen.hash)
        folder = context.layout.query(context.lineage.id, name)
        trigger = f"{round(seconds(context.frozen.contract.job.trigger) * 1000)} milliseconds"
        writer = (
            frame.writeStream.queryName(f"{context.frozen.pipeline}.{name}")
            .foreachBatch(guarded)
            .outputMode(mode)
            .option("checkpointLocation", str(folder))
        )
        again = redo_folder(context.layout.lineage(context.lineage.id), name)
        redo(again, folder, lambda: self._one_batch(writer.trigger(once=True).start()))
        return writer.trigger(processingTime=trigger).start()

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
            self._raise_if_ended()
            self._check_claim()
            self._tasks.look(self._queries, time.time())
            if time.time() - self._status.status.written_at > 5:
                self._status.change()
        _log.info("a stop was asked for: running batches are committed, no new one begins")
        self._status.change(phase="stopping")
        self._drain()

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
                self._gate.close()
                self._drain()
                raise (
                    error
                    if error is not None
                    else HeadgateError(f"query {name} ended, and nobody asked it to")
                )

    def _drain(self) -> None:
        """Every query ends behind the gate, or is stopped while it waits for its next trigger."""
        while any(query.isActive for query in self._queries.values()):
            for query in self._queries.values():
                if query.isActive and not query.status["isTriggerActive"]:
                    query.stop()
            time.sleep(0.05)

    def close(self) -> None:
        if self._spark is not None:
            self._spark.stop()


def _all_sources(
    spark: SparkSession, settings: Settings, frozen: FrozenContract, starts: Starts
) -> DataFrame:
    """The record query reads all sources; with several, each record carries its source's name."""
    from pyspark.sql import functions as F

    from spark.source import read_source

    frames = {name: read_source(spark, settings, frozen, name, starts) for name in frozen.contract.sources}
    if len(frames) == 1:
        return next(iter(frames.values()))
    named = [frame.withColumn("_source", F.lit(name)) for name, frame in frames.items()]
    return reduce(lambda left, right: left.unionByName(right), named)


def _uses_redis(frozen: FrozenContract) -> bool:
    return any(t.redis for output in frozen.contract.outputs.values() for t in output.to)
