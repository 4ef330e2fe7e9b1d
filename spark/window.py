"""The stateful query of one output: its frame before writeStream, and its commit in foreachBatch.

The batch's rows are what changed in the state. They are collected once, which also drains the frame (a
stateful frame that nobody consumes fails the query), and then go to each target, so that a batch that
Delta already has is still written to Redis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from headgate.errors import HeadgateError
from spark.context import DriverContext
from spark.rows import result_rows
from spark.screen import screen
from spark.source import read_source
from spark.stateful import output_frame, with_watermark

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from headgate.contract.frozen import FrozenContract
    from headgate.settings import Settings

__all__ = ["KeyNotUniqueError", "StatefulQuery", "stateful_frame"]


def stateful_frame(spark: SparkSession, settings: Settings, frozen: FrozenContract, output: str) -> DataFrame:
    """Source, decoding, screening, watermark and the output's own computation."""
    frames = {}
    for name, source in frozen.contract.sources.items():
        screened = screen(read_source(spark, settings, frozen, name), frozen.contract, name)
        frames[name] = with_watermark(screened.good(), source)
    return output_frame(spark, frozen.contract, output, frames)


class KeyNotUniqueError(HeadgateError):
    """Rows of one batch share a key. Running again cannot help: the contract is wrong."""


class StatefulQuery:
    """foreachBatch of one stateful output."""

    def __init__(self, context: DriverContext, output: str, watermark: Callable[[int], float | None]) -> None:
        self._context = context
        self._output = output
        self._watermark = watermark
        self._spec = context.frozen.contract.outputs[output]
        self._resolved = context.frozen.outputs[output]
        self._sink = context.sink(output, output)

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        self._context.before_batch()
        rows: pa.Table = batch.toArrow()
        sink = self._sink
        # Without rows there is nothing to note: run again, the batch is as empty.
        if sink is not None and rows.num_rows and not sink.has(batch_id):
            self._context.before_write()
            self._check_key(rows)
            if self._spec.mode == "update":
                sink.merge_rows(rows, self._spec.key, batch_id, self._resolved.event_time)
            else:
                sink.append_rows(rows, batch_id)
            sink.upkeep(batch_id)
        self._context.before_write()
        found = result_rows(rows, self._spec.key, self._resolved.event_time, batch_id)
        self._context.publish(self._output, found, batch_id, self._watermark(batch_id))

    def _check_key(self, rows: pa.Table) -> None:
        """An upsert needs one row per key; two would leave it to chance which one stays."""
        key = list(self._spec.key)
        if not key:
            return
        distinct = rows.select(key).group_by(key).aggregate([]).num_rows
        if distinct != rows.num_rows:
            raise KeyNotUniqueError(
                f"output {self._output}: {rows.num_rows} rows and {distinct} different ({', '.join(key)})",
                expected="a key that tells all rows of the output apart, such as all of its GROUP BY columns",
                help="correct `key`, raise `version`, then `headgate plan` and `headgate apply`",
            )
