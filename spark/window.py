"""The stateful query of one output: its frame before writeStream, and its commit in foreachBatch.

The batch's rows are what changed in the state. They are computed once, into the cache, which also drains the
frame (a stateful frame that nobody consumes fails the query), and then go to each target, so that a batch
that Delta already has is still written to Redis. A result that fits is collected and written by the driver
in some 20 ms; a larger one, such as that of a long window that closes, is written by Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from headgate.arrow.choice import stateful_lane
from headgate.arrow.passed import read_sources
from headgate.contract.refusal import refusals
from headgate.errors import HeadgateError
from headgate.failpoints import hit
from spark.collected import few_rows, text_bytes
from spark.context import DriverContext
from spark.passed import good_in_arrow
from spark.quarantine import COLLECT_BYTES
from spark.rows import newest_rows, result_rows
from spark.screen import screen
from spark.source import Caps, Starts, read_source
from spark.stateful import output_frame, with_watermark

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from headgate.contract.frozen import FrozenContract
    from headgate.formats.decoder import Writers
    from headgate.settings import Settings
    from spark.delta import DeltaSink

__all__ = ["KeyNotUniqueError", "StatefulQuery", "stateful_frame"]

# Up to here a result goes through the driver's memory, as rows of Arrow and as rows of Python.
COLLECT_ROWS = 100_000


def stateful_frame(
    spark: SparkSession,
    settings: Settings,
    frozen: FrozenContract,
    output: str,
    starts: Starts | None = None,
    *,
    ends: Starts | None = None,
    caps: Caps | None = None,
    late: bool = True,
    writers: Mapping[str, Writers] | None = None,
    notes: tuple[str, str] | None = None,
) -> DataFrame:
    """Source, decoding and screening in the output's lane, watermark and what the output itself computes.
    Without `late` there is no watermark: no record is too late, and all groups stay in the state. `notes` are
    those of `spark.passed`."""
    frames = {}
    in_arrow = read_sources(frozen, output) if stateful_lane(frozen, output).lane == "arrow" else []
    for name, source in frozen.contract.sources.items():
        raw = read_source(spark, settings, frozen, name, starts, ends=ends, caps=caps)
        asked = (writers or {}).get(name)
        if name in in_arrow:
            good = good_in_arrow(raw, frozen, output, name, writers=asked, notes=notes)
        else:
            stopping = refusals(frozen.contract, name, frozen.topics[name])
            good = screen(raw, frozen.contract, name, asked).good(stopping)
        frames[name] = with_watermark(good, source) if late else good
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
        self._served = any(target.redis for target in self._spec.to)

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        self._context.before_batch()
        hit("stateful.gate")
        batch.persist()
        try:
            found = few_rows(batch, rows=COLLECT_ROWS, size=COLLECT_BYTES)
            if found is not None:
                self._write_collected(found, batch_id)
            else:
                self._write_many(batch, batch_id)
        finally:
            batch.unpersist()
        hit("stateful.before_commit")

    def _write_many(self, batch: DataFrame, batch_id: int) -> None:
        rows, size = _size(batch)
        if rows <= COLLECT_ROWS and size <= COLLECT_BYTES:
            self._write_collected(batch.toArrow(), batch_id)
        else:
            self._write_frame(batch, rows, batch_id)

    def _write_collected(self, rows: pa.Table, batch_id: int) -> None:
        sink, key = self._sink, list(self._spec.key)
        # Without rows there is nothing to note: run again, the batch is as empty.
        if sink is not None and rows.num_rows and not sink.has(batch_id):
            if key:
                self._check_key(rows.num_rows, rows.select(key).group_by(key).aggregate([]).num_rows)
            if self._spec.mode == "update":
                write = partial(sink.merge_rows, rows, key, batch_id, self._resolved.event_time)
            else:
                write = partial(sink.append_rows, rows, batch_id)
            self._commit(sink, write, batch_id)
        self._publish(rows, batch_id)

    def _write_frame(self, frame: DataFrame, rows: int, batch_id: int) -> None:
        sink, key = self._sink, list(self._spec.key)
        if sink is not None and not sink.has(batch_id):
            if key:
                self._check_key(rows, frame.select(*key).distinct().count())
            if self._spec.mode == "update":
                write = partial(sink.merge_frame, frame, key, batch_id, self._resolved.event_time)
            else:
                partitions = next((t.partition_by for t in self._spec.to if t.delta), ())
                write = partial(sink.append_frame, frame, batch_id, partitions)
            self._commit(sink, write, batch_id)
        if self._served:
            self._publish(newest_rows(frame, self._resolved.event_time), batch_id)

    def _commit(self, sink: DeltaSink, write: Callable[[], None], batch_id: int) -> None:
        self._context.before_write()
        hit("stateful.before_delta")
        write()
        hit("stateful.after_delta")
        self._context.before_write()
        sink.upkeep(batch_id)

    def _publish(self, rows: pa.Table, batch_id: int) -> None:
        if not self._served:
            return
        found = result_rows(rows, self._spec.key, self._resolved.event_time, batch_id)
        self._context.before_write()
        hit("stateful.before_redis")
        self._context.publish(self._output, found, batch_id, self._watermark(batch_id))
        hit("stateful.after_redis")

    def _check_key(self, rows: int, distinct: int) -> None:
        """An upsert needs one row per key; two would leave it to chance which one stays."""
        if distinct != rows:
            raise KeyNotUniqueError(
                f"output {self._output}: {rows} rows and {distinct} different ({', '.join(self._spec.key)})",
                expected="a key that tells all rows of the output apart, such as all of its GROUP BY columns",
                help="correct `key`, give the output another name and table, then `headgate plan` and "
                "`headgate apply`",
            )


def _size(frame: DataFrame) -> tuple[int, int]:
    """Rows, and bytes of their texts."""
    row = frame.agg(F.count(F.lit(1)), F.sum(text_bytes(frame))).collect()[0]
    return int(row[0]), int(row[1] or 0)
