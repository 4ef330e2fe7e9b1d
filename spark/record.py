"""The record query: writes the stateless outputs, the quarantine and the books under one batch id.

In numbered steps, each safe to run again, because a batch whose commit was lost runs again with the same
offsets and the same batch id:

1. the gate and the claim are looked at;
2. records are counted, while the good ones are written where there are outputs for them;
3. the quarantine gets what was bad, with its original bytes, and counts it by reason;
4. the books get the counts;
5. Spark commits the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyspark.sql import Observation
from pyspark.sql import functions as F

from headgate.checkpoints.books import Page, Totals, write_page
from headgate.checkpoints.layout import RECORDS
from headgate.contract.refusal import RecordPlace, refusals
from headgate.failpoints import hit
from spark.context import DriverContext
from spark.quarantine import BAD, BAD_BYTES, Counted, Quarantine, carried, example, record_bytes
from spark.rows import newest_rows, result_rows
from spark.screen import Screened, screen
from spark.stateful import output_frame

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from headgate.contract.frozen import FrozenContract

__all__ = ["RecordQuery", "keep_books"]

WRITER = "delta-spark"

# Counted beside the reasons and rules, none of which can have these names.
READ, GOOD, WARNED, CARRIED, BYTES = "_read", "_good", "_warned", "_carried", "_bytes"


class RecordQuery:
    """The JVM lane of one pipeline's record query, a lane of `spark.lane`."""

    def __init__(self, context: DriverContext, counted: Callable[[Page], None]) -> None:
        self._context = context
        self._counted = counted
        self.example = ""  # the newest record that was quarantined, for people
        self._quarantine = Quarantine(context)
        self._tables = {name: context.sink(name, "records") for name in context.frozen.record_outputs}

    def frame(self, raw: DataFrame) -> DataFrame:
        """The records as they are: everything is done in the batch."""
        for sink in filter(None, self._tables.values()):
            noted = sink.noted_writer
            # Whichever lane ran last: tasks of the other one may have left files that no commit names.
            sink.sweeps = noted is not None
            if noted not in (None, WRITER):
                self._context.before_write()
                sink.note_writer(WRITER)
        return raw

    def commit(self, batch: DataFrame, batch_id: int) -> None:
        self._context.before_batch()
        hit("records.gate")
        frozen = self._context.frozen
        sources = {name: self._of_source(batch, name) for name in frozen.contract.sources}
        writers = self._context.writers
        screened = {
            name: screen(frame, frozen.contract, name, writers.get(name)) for name, frame in sources.items()
        }
        counts = self._write_good(batch, screened, batch_id)
        for name, one in counts.items():
            refuse(frozen, name, one.numbers, one.refused)
        total = Totals()
        for name, one in counts.items():
            self._context.caps.measured(name, batch_id, one.numbers[READ], one.numbers[BYTES])
            broken: Mapping[str, int] = {}
            if one.numbers[BAD]:
                self.example = example(one) or self.example
                broken = self._quarantine.write(screened[name], name, one, batch_id)
            total = total.plus(_totals(screened[name], {**one.numbers, **broken}))
        keep_books(self._context, self._counted, batch_id, total)

    def _of_source(self, batch: DataFrame, name: str) -> DataFrame:
        if len(self._context.frozen.contract.sources) == 1:
            return batch
        return batch.where(F.col("_source") == name).drop("_source")

    def _write_good(
        self, batch: DataFrame, screened: Mapping[str, Screened], batch_id: int
    ) -> dict[str, Counted]:
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
            if any(one.refused for one in counts.values()):
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
    ) -> dict[str, Counted]:
        ((source, one),) = screened.items()
        sink = self._tables.get(output)
        if sink is None or sink.has(batch_id):
            counts = _count(one)
            self._write_output(self._output(batch, one.good(), source, output), output, batch_id)
            return {source: counts}
        name = f"{self._context.frozen.pipeline}-{batch_id}"
        observation, written = Observation(name), Observation(f"{name}-good")
        columns = [column.alias(name) for name, column in _counters(one).items()]
        watched = replace(one, frame=one.frame.observe(observation, *columns, carried(one).alias(CARRIED)))
        # What is written is counted on its own, behind the filter: a record that is lost between the two
        # shows as a difference in the books.
        good = watched.good().observe(written, F.count(F.lit(1)).alias(GOOD))
        self._write_output(self._output(batch, good, source, output), output, batch_id)
        return {source: _counted({**observation.get, **written.get})}

    def _output(self, batch: DataFrame, good: DataFrame, source: str, output: str) -> DataFrame:
        contract = self._context.frozen.contract
        return output_frame(batch.sparkSession, contract, output, {source: good})

    def _write_output(self, frame: DataFrame, output: str, batch_id: int) -> None:
        spec = self._context.frozen.contract.outputs[output]
        sink = self._tables.get(output)
        self._context.before_write()
        if sink is not None and not sink.has(batch_id):
            partitions = next((t.partition_by for t in spec.to if t.delta), ())
            hit("records.before_delta")
            sink.append_frame(frame, batch_id, partitions)
            hit("records.after_delta")
            self._context.before_write()
            sink.upkeep(batch_id, behind=self._context.caps.behind(RECORDS))
        if any(target.redis for target in spec.to):
            event_time = self._context.frozen.outputs[output].event_time
            found = result_rows(newest_rows(frame, event_time), spec.key, event_time, batch_id)
            hit("records.before_redis")
            self._context.publish(output, found, batch_id, None)
            hit("records.after_redis")


def refuse(
    frozen: FrozenContract, source: str, counts: Mapping[str, int], refused: Mapping[str, RecordPlace]
) -> None:
    """Raise where records broke a rule that stops the stream: before any output has one of the batch.
    `counts` is by rule, `refused` has the first record that broke it."""
    for rule, refusal in refusals(frozen.contract, source, frozen.topics[source]).items():
        if counts.get(rule, 0):
            raise refusal.error(refused.get(rule), counts[rule])


def keep_books(context: DriverContext, counted: Callable[[Page], None], batch_id: int, total: Totals) -> None:
    """The last step of a batch: its counts, on a page that is the same when the batch runs again."""
    context.before_write()
    hit("records.before_books")
    page = write_page(context.books, batch_id, total)
    hit("records.after_books")
    counted(page)
    hit("records.before_commit")


def _counters(one: Screened) -> dict[str, Column]:
    """What is counted of each record; the names are those of `Counted.numbers`. Each counter costs something
    for each record, so the reasons are counted where only bad records come: in the quarantine."""
    bad = one.bad
    columns: dict[str, Column] = {
        READ: F.count(F.lit(1)),
        BYTES: F.sum(record_bytes()),
        BAD: F.count_if(bad),
        BAD_BYTES: F.sum(F.when(bad, F.length("_value") + F.lit(64)).otherwise(F.lit(0))),
    }
    if one.warn:
        columns[WARNED] = F.count_if(one.warned)
    return columns | {name: F.count_if(condition) for name, condition in (*one.warn, *one.fail)}


def _count(one: Screened) -> Counted:
    counters = {**_counters(one), GOOD: F.count_if(one.passed)}
    columns = [column.alias(name) for name, column in counters.items()]
    place = F.struct("_partition", "_offset")
    first = [F.min(F.when(broken, place)).alias(f"_first_{rule}") for rule, broken in one.fail]
    row = one.frame.agg(*columns, *first, carried(one).alias(CARRIED)).collect()[0].asDict(recursive=False)
    places = {rule: row.pop(f"_first_{rule}") for rule, _ in one.fail}
    refused = {rule: RecordPlace(*found) for rule, found in places.items() if found is not None}
    return replace(_counted(row), refused=refused)


def _counted(values: Mapping[str, Any]) -> Counted:
    numbers = {name: int(value or 0) for name, value in values.items() if name != CARRIED}
    return Counted(numbers, values[CARRIED] or [])


def _totals(one: Screened, counts: Mapping[str, int]) -> Totals:
    names = [name for name, _ in (*one.quarantine, *one.warn, *one.fail)]
    return Totals(
        read=counts[READ],
        good=counts[GOOD],
        quarantined=counts[BAD],
        warned=counts.get(WARNED, 0),
        rules={name: counts[name] for name in names if counts.get(name)},
    )
