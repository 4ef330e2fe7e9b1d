"""What another contract has begun to write is ended with that one (`headgate.checkpoints.unfinished`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from headgate.batches.caps import BatchCaps
from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import batch_watermark
from headgate.checkpoints.unfinished import Unfinished, unfinished_batches
from headgate.contract.frozen import ContractStore
from headgate.formats.desk import open_desk
from spark.begin import on_checkpoint
from spark.context import DriverContext
from spark.redo import one_batch
from spark.starts import query_starts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from headgate.checkpoints.books import Page
    from spark.progress import StatusFile

__all__ = ["Commit", "end_unfinished"]

Commit = Callable[["DataFrame", int], None]

_log = logging.getLogger("headgate.driver")


def end_unfinished(
    spark: SparkSession,
    context: DriverContext,
    guarded: Callable[[str, Commit], Commit],
    counted: Callable[[Page], None],
    status: StatusFile,
) -> None:
    """Run each of them once. `guarded` keeps what a query's commit fails of. Raises what its batch fails of,
    and StopRequestedError."""
    contracts = ContractStore(context.settings.state)
    tables, lineage = context.settings.tables, context.lineage.id
    for each in unfinished_batches(context.layout, lineage, context.frozen, tables, contracts.get):
        _log.warning(
            "batch %d of query %s is in a table and not committed: contract %s, which began it, ends it",
            each.batch,
            each.query,
            each.contract.hash[:12],
        )
        with _before(context, each) as own:
            writer, commit = _query(spark, own, each.query, counted, status)
            guarded_commit = guarded(each.query, commit)
            ready = on_checkpoint(own, each.query, writer.foreachBatch(guarded_commit))
            one_batch(ready.trigger(once=True).start(), own.gate, status)


@contextmanager
def _before(context: DriverContext, unfinished: Unfinished) -> Iterator[DriverContext]:
    """The context that the batch began in, but for this driver's claim."""
    settings, frozen = context.settings, unfinished.contract
    kept = context.layout.schemas(context.lineage.id, frozen.hash)
    desk = open_desk(settings, frozen.contract, kept, stopping=context.gate.wait, waiting=context.waiting)
    writers = desk.askers if desk is not None else {}
    caps = BatchCaps(frozen, settings.spark.master)
    try:
        yield replace(context, frozen=frozen, caps=caps, writers=writers, _sinks={})
    finally:
        if desk is not None:
            desk.close()


def _query(
    spark: SparkSession,
    context: DriverContext,
    query: str,
    counted: Callable[[Page], None],
    status: StatusFile,
) -> tuple[DataStreamWriter, Commit]:
    from spark.lane import lane_of
    from spark.source import read_all
    from spark.window import StatefulQuery, stateful_frame

    settings, frozen, caps = context.settings, context.frozen, context.caps.of(query)
    starts = query_starts(settings, frozen, context.lineage).get(query, {})
    if query == RECORDS:
        lane = lane_of(context, counted, status)
        frame = lane.frame(read_all(spark, settings, frozen, starts, caps=caps))
        return frame.writeStream.outputMode("append"), lane.commit
    folder = context.layout.query(context.lineage.id, query)
    changes = stateful_frame(spark, settings, frozen, query, starts, caps=caps, writers=context.writers)
    writer = changes.writeStream.outputMode(frozen.contract.outputs[query].mode)
    return writer, StatefulQuery(context, query, partial(batch_watermark, folder))
