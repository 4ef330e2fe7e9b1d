"""The record query: writes the stateless outputs, the quarantine and the books under one batch id.

In numbered steps, each safe to run again, because a batch whose commit was lost runs again with the same
offsets and the same batch id:

1. the gate and the claim are looked at;
2. records are counted by reason, while the good ones are written where there are outputs for them;
3. the quarantine gets what was bad, with its original bytes;
4. the books get the counts;
5. Spark commits the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pyspark.sql import Observation
from pyspark.sql import functions as F

from headgate.checkpoints.books import Page, Totals, write_page
from headgate.errors import HeadgateError
from spark.context import DriverContext
from spark.rows import result_rows
from spark.screen import Screened, screen
from spark.stateful import output_frame

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import Column, DataFrame

__all__ = ["RecordQuery", "RuleFailedError"]

# Up to here the bad records of a batch go through the driver, whose commit takes 20 ms; more than that are
# written by Spark. Records of up to a megabyte must fit, so bytes are bounded too.
COLLECT_ROWS = 20_000
COLLECT_BYTES = 64 * 1024 * 1024
# Counted beside the reasons and rules, none of which can have these names.
READ, BAD, BAD_BYTES, WARNED = "_read", "_bad", "_bad_bytes", "_warned"
# What Redis is given of a stateless output: it serves the newest, it is not a table.
REDIS_ROWS = 10_000


class RuleFailedError(HeadgateError):
    """A record broke a rule whose `otherwise` is `fail`: the stream stops before the batch is written."""


class RecordQuery:
    """foreachBatch of one pipeline's record query."""

    def __init__(self, context: DriverContext, counted: Callable[[Page], None]) -> None:
        self._context = context
        self._counted = counted
        self._tables = {name: context.sink(name, "records") for name in context.frozen.record_outputs}

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        self._context.before_batch()
        frozen = self._context.frozen
        sources = {name: self._of_source(batch, name) for name in frozen.contract.sources}
        screened = {name: screen(frame, frozen.contract, name) for name, frame in sources.items()}
        counts = self._write_good(batch, screened, batch_id)
        self._refuse(counts)
        total = Totals()
        for name, one in counts.items():
            if one[BAD]:
                self._write_bad(screened[name], name, one, batch_id)
            total = total.plus(_totals(screened[name], one))
        page = write_page(self._context.books, batch_id, total)
        self._counted(page)

    def _of_source(self, batch: DataFrame, name: str) -> DataFrame:
        if len(self._context.frozen.contract.sources) == 1:
            return batch
        return batch.where(F.col("_source") == name).drop("_source")

    def _write_good(
        self, batch: DataFrame, screened: Mapping[str, Screened], batch_id: int
    ) -> dict[str, dict[str, int]]:
        """Write the stateless outputs and count. One pass where there is one source and one output."""
        outputs = self._context.frozen.record_outputs
        contract = self._context.frozen.contract
        must_count_first = any(one.fail for one in screened.values())
        if len(screened) == 1 and len(outputs) == 1 and not must_count_first:
            return self._count_while_writing(batch, screened, outputs[0], batch_id)
        if outputs:
            batch.persist()
        try:
            counts = {name: _count(one) for name, one in screened.items()}
            if any(counts[name][rule] for name, one in screened.items() for rule, _ in one.fail):
                return counts
            good = {name: one.good() for name, one in screened.items()}
            for output in outputs:
                frame = output_frame(batch.sparkSession, contract, output, good)
                self._write_output(frame, output, batch_id)
            return counts
        finally:
            if outputs:
                batch.unpersist()

    def _count_while_writing(
        self, batch: DataFrame, screened: Mapping[str, Screened], output: str, batch_id: int
    ) -> dict[str, dict[str, int]]:
        ((source, one),) = screened.items()
        sink = self._tables.get(output)
        if sink is None or sink.has(batch_id):
            counts = _count(one)
            self._write_output(self._output(batch, one, source, output), output, batch_id)
            return {source: counts}
        observation = Observation(f"{self._context.frozen.pipeline}-{batch_id}")
        columns = _counters(one)
        first, *rest = [column.alias(name) for name, column in columns.items()]
        watched = Screened(
            one.frame.observe(observation, first, *rest), one.columns, one.quarantine, one.warn, one.fail
        )
        self._write_output(self._output(batch, watched, source, output), output, batch_id)
        return {source: {name: int(observation.get[name] or 0) for name in columns}}

    def _output(self, batch: DataFrame, one: Screened, source: str, output: str) -> DataFrame:
        contract = self._context.frozen.contract
        return output_frame(batch.sparkSession, contract, output, {source: one.good()})

    def _write_output(self, frame: DataFrame, output: str, batch_id: int) -> None:
        spec = self._context.frozen.contract.outputs[output]
        sink = self._tables.get(output)
        self._context.before_write()
        if sink is not None and not sink.has(batch_id):
            partitions = next((t.partition_by for t in spec.to if t.delta), ())
            sink.append_frame(frame, batch_id, partitions)
            sink.upkeep(batch_id)
        if any(target.redis for target in spec.to):
            event_time = self._context.frozen.outputs[output].event_time
            newest = frame.orderBy(F.col(event_time).desc()) if event_time else frame
            rows: pa.Table = newest.limit(REDIS_ROWS).toArrow()
            self._context.publish(output, result_rows(rows, spec.key, event_time), batch_id, None)

    def _refuse(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        for name, source in self._context.frozen.contract.sources.items():
            for rule in source.rules:
                broken = counts[name].get(rule.name, 0)
                if rule.otherwise == "fail" and broken:
                    raise RuleFailedError(
                        f"{broken} records of source {name} broke the rule {rule.name}: {rule.expect}",
                        expected="no such record: the rule says `otherwise: fail`",
                        help=f"fix the producer, or say `otherwise: quarantine`; then `headgate restart "
                        f"{self._context.frozen.pipeline}`",
                    )

    def _write_bad(self, one: Screened, source: str, counts: Mapping[str, int], batch_id: int) -> None:
        sink = self._context.quarantine_sink(source)
        if sink.has(batch_id):
            return
        frame = one.frame.where(one.bad).select(*self._quarantine_columns(one, source, batch_id))
        self._context.before_write()
        if counts[BAD] <= COLLECT_ROWS and counts[BAD_BYTES] <= COLLECT_BYTES:
            rows: pa.Table = frame.toArrow()
            if rows.num_rows != counts[BAD]:
                raise HeadgateError(
                    f"batch {batch_id}: {counts[BAD]} bad records counted, {rows.num_rows} read back"
                )
            sink.append_rows(rows, batch_id)
        else:
            sink.append_frame(frame, batch_id)
        sink.upkeep(batch_id)

    def _quarantine_columns(self, one: Screened, source: str, batch_id: int) -> list[Column]:
        frozen = self._context.frozen
        values: dict[str, Any] = {
            "topic": F.col("_topic"),
            "partition": F.col("_partition"),
            "offset": F.col("_offset"),
            "timestamp": F.col("_arrival"),
            "key": F.col("_key"),
            "value": F.col("_value"),
            "source": F.lit(source),
            "stage": F.when(F.array_contains(one.reasons(), F.lit("_parse")), "parse").otherwise("rule"),
            "rules": one.reasons(),
            "contract_version": F.lit(frozen.contract.version),
            "contract_hash": F.lit(frozen.hash),
            "generation": F.lit(self._context.generation).cast("bigint"),
            "epoch": F.lit(self._context.epoch).cast("bigint"),
            "batch_id": F.lit(batch_id).cast("bigint"),
            "lineage": F.lit(self._context.lineage.id),
            "quarantined_at": F.col("_now"),
        }
        return [column.alias(name) for name, column in values.items()]


def _counters(one: Screened) -> dict[str, Column]:
    """What is counted of each record; the names are those of `_count`'s result."""
    bad = one.bad
    columns: dict[str, Column] = {
        READ: F.count(F.lit(1)),
        BAD: F.count_if(bad),
        BAD_BYTES: F.sum(F.when(bad, F.length("_value") + F.lit(64)).otherwise(F.lit(0))),
        WARNED: F.count_if(_any(condition for _, condition in one.warn)),
    }
    for name, condition in (*one.quarantine, *one.warn, *one.fail):
        columns[name] = F.count_if(condition)
    return columns


def _any(conditions: Any) -> Column:
    result = F.lit(False)
    for condition in conditions:
        result = result | condition
    return result


def _count(one: Screened) -> dict[str, int]:
    columns = _counters(one)
    row = one.frame.agg(*(column.alias(name) for name, column in columns.items())).collect()[0]
    return {name: int(row[name] or 0) for name in columns}


def _totals(one: Screened, counts: Mapping[str, int]) -> Totals:
    names = [name for name, _ in (*one.quarantine, *one.warn, *one.fail)]
    return Totals(
        read=counts[READ],
        good=counts[READ] - counts[BAD],
        quarantined=counts[BAD],
        warned=counts[WARNED],
        rules={name: counts[name] for name in names if counts[name]},
    )
