"""The driver of a replay: the live stream's driver over a range that ends, with everything else its own.

    python -m spark.replay --pipeline NAME --replay ID --epoch E

It has its own checkpoint, claim and tables, writes nothing to Redis, serves no metrics, and ends by itself
when every query has committed its range. A query knows no end of its own: it sees no record from the end of
the range on, and ends ahead of the first batch after it.

An upserted output runs without a watermark: no record of the range is too late for it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.batches.sample import Reading
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import Lineage, begin_lineage, read_lineage
from headgate.checkpoints.logs import batch_watermark, committed_offsets
from headgate.checkpoints.origin import Origin
from headgate.checkpoints.owner import OwnerClaim
from headgate.contract.frozen import FrozenContract
from headgate.errors import HeadgateError, RefusedError
from headgate.replays.ground import changed_topics
from headgate.replays.model import Replay, ReplayLayout, read_replay, write_note
from headgate.settings import Settings, load_settings
from headgate.tables.place import on_disk
from headgate.topics.lag import queries_of
from serving.results import ResultStore
from spark.driver import Driver
from spark.incarnation import Order, run_incarnation
from spark.logs import begin_log
from spark.metrics import DriverMetrics
from spark.progress import StatusFile
from spark.sizes import RecordSizes
from spark.stop import StopGate, StopRequestedError, drain

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from spark.context import DriverContext
    from spark.source import Starts

__all__ = ["ReplayDriver", "main", "reached"]

_log = logging.getLogger("headgate.driver")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m spark.replay", description="One driver of one replay.")
    parser.add_argument("--pipeline", required=True)
    parser.add_argument("--replay", required=True, help="its id, from `headgate replay list`")
    parser.add_argument("--epoch", required=True, type=int)
    arguments = parser.parse_args()
    begin_log()
    try:
        settings, _ = load_settings()
        replay = read_replay(settings.state, arguments.replay)
    except HeadgateError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    order = Order(replay.pipeline, replay.contract_hash, 0, arguments.epoch)
    report = ReplayLayout(settings.state, replay.pipeline, replay.id).report
    return run_incarnation(
        order, report, lambda gate, status: ReplayDriver(settings, replay, order, gate, status)
    )


def reached(folder: Path, ends: Starts, *, settled: bool, told: bool = True) -> bool:
    """Whether a query has committed all records before these ends. With `settled` the watermark of the last
    batch must have come to rest as well: what it closes is written by the batch after it. Where it is not
    `told` which topics the query reads, those count that it has read of."""
    committed = committed_offsets(folder)
    if committed is None:
        return False
    read = committed.offsets
    there = all(
        read.get(topic, {}).get(number, 0) >= end
        for topic, partitions in ends.items()
        if told or topic in read
        for number, end in partitions.items()
    )
    return there and (not settled or committed.watermark_ms == _milliseconds(folder, committed.batch_id))


def _milliseconds(folder: Path, batch: int) -> int | None:
    found = batch_watermark(folder, batch)
    return round(found * 1000) if found is not None else None


class ReplayDriver(Driver):
    shares = False  # its queries begin and end by themselves, and each has its own range

    def __init__(
        self, settings: Settings, replay: Replay, order: Order, gate: StopGate, status: StatusFile
    ) -> None:
        self._own = ReplayLayout(settings.state, replay.pipeline, replay.id)
        super().__init__(self._own.side(settings), order, gate, status)
        self._live = settings
        self._replay = replay
        self._frozen: FrozenContract | None = None
        self._folders: dict[str, Path] = {}

    def _settle(self, frozen: FrozenContract, claim: OwnerClaim, spark_version: str) -> Lineage:
        del claim
        _same_topics(self._live, self._replay)
        self._frozen = frozen
        layout = self._own.checkpoints
        lineage = _lineage(layout, frozen, self._replay, spark_version)
        self._folders = {query: layout.query(lineage.id, query) for query in queries_of(frozen)}
        return lineage

    def _results(self, frozen: FrozenContract) -> ResultStore | None:
        del frozen
        return None

    def _serve(self, metrics: DriverMetrics) -> int | None:
        del metrics
        return None

    def _wanted(self, query: str) -> bool:
        return not self._reached(query)

    def _records(self, spark: SparkSession, context: DriverContext, starts: Starts) -> DataFrame:
        from spark.source import read_all

        caps = context.caps.of(RECORDS)
        return read_all(spark, self._settings, context.frozen, starts, self._replay.end, caps=caps)

    def _changes(self, spark: SparkSession, context: DriverContext, output: str, starts: Starts) -> DataFrame:
        from spark.window import stateful_frame

        return stateful_frame(
            spark,
            self._settings,
            context.frozen,
            output,
            starts,
            ends=self._replay.end,
            caps=context.caps.of(output),
            late=not self._upserts(output),
            writers=self._writers,
        )

    def _sized(self, context: DriverContext, look: Callable[[], Mapping[str, Reading]]) -> RecordSizes:
        """By the range alone: what is around it is not read, however large or small it is."""
        live = CheckpointLayout(self._live.checkpoints, self._replay.pipeline)
        inside = partial(_inside, look, self._replay.end)
        return RecordSizes(self._settings, context.frozen, context.caps, inside, live.sizes)

    def _triggered(self, writer: DataStreamWriter, frozen: FrozenContract) -> DataStreamWriter:
        del frozen
        return writer.trigger(availableNow=True)

    def _before(self, query: str) -> None:
        if self._reached(query):
            raise StopRequestedError

    def watch(self) -> None:
        """Until every query has come to the end of the range, or a stop."""
        assert self._tasks is not None, "the queries have been started"
        while not self._gate.wait(0.2):
            self._check_claim()
            self._tasks.look(self._queries, time.time())
            self._status.refresh()
            if not self._running():
                self._finish()
                return
        self._status.change(phase="stopping")
        drain(self._queries.values())

    def _running(self) -> bool:
        """Raises what a query failed of."""
        for name, query in self._queries.items():
            if not query.isActive and not self._reached(name) and not self._gate.closed:
                error = query.exception()
                self._gate.close()
                drain(self._queries.values())
                raise error or HeadgateError(f"query {name} ended before the end of its range")
        return any(query.isActive for query in self._queries.values())

    def _finish(self) -> None:
        from spark.evidence import gather
        from spark.judged import note_judged

        assert self._spark is not None, "the session is there"
        assert self._frozen is not None, "the contract has been read"
        _log.info("the range is read; looking which windows lie wholly inside it")
        if self._frozen.stateful_outputs:
            roots = on_disk(self._live.tables, "a replay"), self._own.tables
            to, writers = self._own.judged, self._writers
            note_judged(self._spark, roots, self._frozen, self._replay, to, writers=writers)
        found = gather(self._spark, self._live, self._frozen, self._replay, self._writers)
        write_note(self._own.evidence, found.to_json())
        write_note(self._own.done, {"at": time.time(), "epoch": self._order.epoch})
        self.done = True

    def _reached(self, query: str) -> bool:
        assert self._frozen is not None, "the contract has been read"
        topics = {self._frozen.topics[source] for source in queries_of(self._frozen)[query]}
        ends = {
            topic: {n: end for n, end in partitions.items() if end > self._replay.begin[topic][n]}
            for topic, partitions in self._replay.end.items()
            if topic in topics
        }
        settled = query != RECORDS and not self._upserts(query)
        told = query == RECORDS or self._frozen.contract.outputs[query].sql is not None
        return reached(self._folders[query], ends, settled=settled, told=told)

    def _upserts(self, output: str) -> bool:
        """Whether its groups may stay open to the end: those of SQL; a Python function may need the time."""
        assert self._frozen is not None, "the contract has been read"
        spec = self._frozen.contract.outputs[output]
        return spec.sql is not None and spec.mode == "update"


def _same_topics(settings: Settings, replay: Replay) -> None:
    """Offsets of a topic that was made anew since would be other records. Raises RefusedError."""
    if changed := changed_topics(settings, replay):
        ids = ", ".join(f"{name} with the id {id}" for name, id in sorted(replay.topics.items()))
        raise RefusedError(
            "; ".join(changed), expected=f"topic {ids}", help=f"headgate replay discard {replay.id}"
        )


def _inside(look: Callable[[], Mapping[str, Reading]], ends: Starts) -> dict[str, Reading]:
    return {topic: replace(each, end=ends.get(topic, {})) for topic, each in look().items()}


def _lineage(layout: CheckpointLayout, frozen: FrozenContract, replay: Replay, spark: str) -> Lineage:
    """The only lineage that a replay has; a driver after the first finds it."""
    current = layout.current_lineage()
    if current is not None:
        return read_lineage(layout, current)
    origin = Origin("offsets", offsets=replay.begin, note=replay.told)
    return begin_lineage(
        layout,
        contract_hash=frozen.hash,
        spark_version=spark,
        at=time.time(),
        origin={**origin.to_json(), "queries": sorted(queries_of(frozen))},
    )


if __name__ == "__main__":
    sys.exit(main())
