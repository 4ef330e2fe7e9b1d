"""A query on its checkpoint: begun, or begun again, behind the claim, once what a restore left has run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from headgate.checkpoints.lineage import note_contract, note_query
from headgate.checkpoints.restore import redo_folder
from spark.redo import one_batch, redo

if TYPE_CHECKING:
    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from headgate.contract.frozen import FrozenContract
    from spark.context import DriverContext
    from spark.progress import StatusFile

__all__ = ["begin_query", "on_checkpoint"]


def begin_query(
    context: DriverContext,
    status: StatusFile,
    name: str,
    writer: DataStreamWriter,
    triggered: Callable[[DataStreamWriter, FrozenContract], DataStreamWriter],
) -> StreamingQuery:
    """`triggered` gives a writer the trigger that the query keeps."""
    context.before_write()  # it may be a query that starts again, long after the claim
    layout, lineage = context.layout, context.lineage.id
    note_contract(layout, lineage, name, context.frozen.hash)
    folder, ready = layout.query(lineage, name), on_checkpoint(context, name, writer)
    again = redo_folder(layout.lineage(lineage), name)
    redo(again, folder, lambda: one_batch(ready.trigger(once=True).start(), context.gate, status))
    query = triggered(ready, context.frozen).start()
    note_query(layout, lineage, name, str(query.id))
    return query


def on_checkpoint(context: DriverContext, name: str, writer: DataStreamWriter) -> DataStreamWriter:
    folder = context.layout.query(context.lineage.id, name)
    title = f"{context.frozen.pipeline}.{name}"
    return writer.queryName(title).option("checkpointLocation", str(folder))
