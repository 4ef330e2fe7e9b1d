"""The Arrow lane of the record query: its tasks have written files, and here they are committed.

The steps and their order are the JVM lane's (`spark.record`), and so are the transaction ids: the gate and
the claim are looked at, then the tasks run and report, then each table gets one commit, and the books the
counts. Files of a batch that its table already has are removed again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from headgate.arrow.doubts import Doubts
from headgate.arrow.files import TableFiles, Written, batch_mark, epoch_of, file_mark, require
from headgate.arrow.plan import RecordPlan, plan_records
from headgate.arrow.quarantine import QUARANTINE, newest, quarantine_rows
from headgate.arrow.screen import BAD, GOOD, RAW, READ, WARNED
from headgate.checkpoints.books import Page, Totals
from headgate.checkpoints.layout import RECORDS
from headgate.errors import HeadgateError, TablesUnavailable
from headgate.failpoints import hit
from headgate.tables.answers import StoreDenied
from headgate.tables.files import files_in, make_folder, open_input, remove
from spark.arrow_task import ROWS_DDL, TaskOrder, task
from spark.context import DriverContext
from spark.doubtful import Settled, settle
from spark.quarantine import batch_values
from spark.record import keep_books, refuse
from spark.reported import Reported, noted, reported

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from headgate.tables.place import Place
    from spark.delta import DeltaSink
    from spark.shared import SharedScreening

__all__ = ["ArrowLane", "bound_batches"]

_log = logging.getLogger("headgate.driver")

WRITER = "deltalake"
# An Arrow batch ends at the first of both. A task holds one of them, and what it has decoded of it.
BATCH_ROWS, BATCH_BYTES = 50_000, 16 * 1024 * 1024
# Of doubtful records that are judged at once. Spark holds about ten copies of them on the way there and back.
PIECE_BYTES = 8 * 1024 * 1024
# What all tasks of a batch may carry along to the driver, of bad records and of doubtful ones each. There is
# a task for each partition.
CARRIED_BYTES = 32 * 1024 * 1024
_ASIDE = "_doubtful"  # below the quarantine; readers and vacuum leave names with `_` alone


def bound_batches(spark: SparkSession) -> None:
    """What a task is given at once, for every query that this session starts from here on."""
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(BATCH_ROWS))
    spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(BATCH_BYTES))


class ArrowLane:
    """A lane of `spark.lane`."""

    def __init__(
        self,
        context: DriverContext,
        counted: Callable[[Page], None],
        doubted: Callable[[Doubts], None] = lambda _: None,
        shared: SharedScreening | None = None,
    ) -> None:
        self._context = context
        self._counted = counted
        self._shared = shared
        self._doubts, self._doubted = Doubts(), doubted
        self.example = ""
        self._plan: RecordPlan = plan_records(context.frozen)
        self._topic = context.frozen.topics[self._plan.source_name]
        sinks = {name: context.sink(name, "records") for name in context.frozen.record_outputs}
        self._tables: Mapping[str, DeltaSink] = {name: sink for name, sink in sinks.items() if sink}
        self._quarantine = context.quarantine_sink(self._plan.source_name)
        self._aside = self._quarantine.path / _ASIDE
        self._mark = file_mark(context.epoch)
        for sink in (*self._tables.values(), self._quarantine):
            sink.sweeps = True

    def frame(self, raw: DataFrame) -> DataFrame:
        bound_batches(raw.sparkSession)
        self._prepare()
        order = TaskOrder(
            contract=json.dumps(self._context.frozen.to_json()),
            topic=self._topic,
            folders={name: sink.path for name, sink in self._tables.items()},
            quarantine=self._quarantine.path,
            aside=self._aside,
            mark=self._mark,
            carried=CARRIED_BYTES // self._plan.source.partitions,
            shared=batch_values(self._context, -1),
            writers=self._context.writers.get(self._plan.source_name),
        )
        return raw.select(*RAW.names).mapInArrow(task(order), ROWS_DDL)

    def _prepare(self) -> None:
        for sink in self._tables.values():
            if sink.noted_writer != WRITER:
                self._context.before_write()
                sink.note_writer(WRITER)
        self._context.before_write()
        make_folder(self._aside)
        # Of drivers that were killed. This one may have been replaced since: what is a newer one's stays.
        found = files_in(self._aside, "*.parquet")
        remove(self._aside, [name for name in found if epoch_of(name) < self._context.epoch])

    def commit(self, batch: DataFrame, batch_id: int) -> None:
        context = self._context
        context.before_batch()
        hit("records.gate")
        found = Reported()
        try:
            elsewhere = self._judged_elsewhere(batch_id)
            found = elsewhere or reported(batch.toArrow())
            self._require(found)
            self._add_own(batch, batch_id, found)
            refuse(context.frozen, self._plan.source_name, found.counts, found.refused)
            self._check_counts(batch_id, found)
            self._measured(found, batch_id, elsewhere=elsewhere is not None)
        except BaseException:
            self._forget(found, batch_id)
            raise
        for name, sink in self._tables.items():
            self._commit_output(sink, found.outputs[name], batch_id)
        if found.counts[BAD]:
            offset, partition = max(found.examples)
            self.example = f"topic {self._topic}, partition {partition}, offset {offset}"
            self._commit_quarantine(found, batch_id)
        _sweep(self._aside, found.aside)
        keep_books(context, self._counted, batch_id, self._totals(found.counts))
        if self._doubts.note(found.counts[READ], found.doubted):
            self._doubted(self._doubts)

    def _judged_elsewhere(self, batch_id: int) -> Reported | None:
        """What the tasks of another query have found in the same records. Its own then do not run: Spark
        computes a batch when somebody asks for its rows."""
        shared = self._shared
        parts = shared.parts(batch_id) if shared is not None else None
        if shared is None or parts is None:
            return None
        try:
            return noted(parts, shared.now(batch_id))
        except (OSError, pa.ArrowInvalid) as error:
            _log.warning("what was judged of batch %d cannot be read, it is done again: %s", batch_id, error)
            return None

    def _measured(self, found: Reported, batch_id: int, *, elsewhere: bool) -> None:
        waited = self._shared is not None and self._shared.waited
        name, records = self._plan.source_name, found.counts[READ]
        self._context.caps.measured(name, batch_id, records, found.bytes, elsewhere=elsewhere, waited=waited)

    def _require(self, found: Reported) -> None:
        """What the tasks have written must be here, too."""
        for name, sink in self._tables.items():
            require(sink.path, found.outputs[name])
        require(self._quarantine.path, found.quarantine)
        require(self._aside, found.aside)

    def _add_own(self, batch: DataFrame, batch_id: int, found: Reported) -> None:
        """Judge what the tasks have left to the driver, piece by piece, and write it at once: however much
        that is, no more than a piece and a row group of each table is held."""
        prefix = batch_mark(self._mark, batch_id)
        outputs = {
            each.name: TableFiles(self._tables[each.name].path, each.schema, prefix)
            for each in self._plan.outputs
        }
        quarantine = TableFiles(self._quarantine.path, QUARANTINE, prefix)
        shared = batch_values(self._context, batch_id)
        try:
            for bad in filter(len, found.bad):
                quarantine.write(quarantine_rows(bad, self._topic, self._plan.source_name, shared))
            for records in self._doubtful(found):
                found.doubted += records.num_rows
                settled = self._settle(batch.sparkSession, records)
                found.counts.update(settled.counts)
                found.refuse(settled.refused)
                for output in self._plan.outputs:
                    if (rows := settled.good.get(output.name)) is not None:
                        outputs[output.name].write(rows.cast(output.schema))
                if settled.bad.num_rows:
                    found.examples.extend(newest(settled.bad))
                    rows = quarantine_rows(settled.bad, self._topic, self._plan.source_name, shared)
                    quarantine.write(rows)
            for name, files in outputs.items():
                found.outputs[name].extend(files.close())
            found.quarantine.extend(quarantine.close())
        except BaseException:
            for files in (*outputs.values(), quarantine):
                files.abandon()
            raise

    def _settle(self, spark: SparkSession, records: pa.Table) -> Settled:
        name = self._plan.source_name
        return settle(spark, self._context.frozen, name, records, self._context.writers.get(name))

    def _doubtful(self, found: Reported) -> Iterator[pa.Table]:
        """What is to be judged here, in pieces that fit in memory: few, as each costs jobs of Spark."""
        waiting = found.doubtful
        for each in found.aside:
            with open_input(self._aside / each.path) as content, pq.ParquetFile(content) as file:
                for group in range(file.num_row_groups):
                    piece = file.read_row_group(group).cast(RAW)
                    if waiting.num_rows and waiting.nbytes + piece.nbytes > PIECE_BYTES:
                        yield waiting
                        waiting = piece
                    else:
                        waiting = pa.concat_tables([waiting, piece])
        if waiting.num_rows:
            yield waiting

    def _check_counts(self, batch_id: int, found: Reported) -> None:
        """As many rows are to be committed as records were counted: of the bad ones, and of the good ones for
        each output that leaves none out."""
        rows = sum(file.rows for file in found.quarantine)
        _check_rows(batch_id, "quarantine", rows, found.counts[BAD])
        for output in self._plan.outputs:
            if output.where is None:
                rows = sum(file.rows for file in found.outputs[output.name])
                _check_rows(batch_id, f"output {output.name}", rows, found.counts[GOOD])

    def _commit_output(self, sink: DeltaSink, files: list[Written], batch_id: int) -> None:
        self._context.before_write()
        if sink.has(batch_id):
            _sweep(sink.path, files)
        elif files:
            hit("records.before_delta")
            self._context.before_write()
            sink.append_files(files, batch_id)
            hit("records.after_delta")
            self._context.before_write()
            sink.upkeep(batch_id, behind=self._context.caps.behind(RECORDS))

    def _commit_quarantine(self, found: Reported, batch_id: int) -> None:
        sink = self._quarantine
        if sink.has(batch_id):
            _sweep(sink.path, found.quarantine)
            return
        self._context.before_write()
        hit("records.before_quarantine")
        sink.append_files(found.quarantine, batch_id)
        hit("records.after_quarantine")
        self._context.before_write()
        sink.upkeep(batch_id, behind=self._context.caps.behind(RECORDS))

    def _forget(self, found: Reported, batch_id: int) -> None:
        """Remove what nobody will name: also files of tasks that ended before another one failed, of which
        nothing was told. A batch that failed ends this driver, and its files are no other one's. It raises
        nothing, since what failed before matters, and ends where it fails: a store is away for all."""
        written = {sink.path: found.outputs[name] for name, sink in self._tables.items()}
        written |= {self._quarantine.path: found.quarantine, self._aside: found.aside}
        mark = batch_mark(self._mark, batch_id)
        try:
            for folder, files in written.items():
                remove(folder, [file.path for file in files])
                remove(folder, files_in(folder, f"{mark}-*.parquet"))
        except Exception as error:  # noqa: BLE001 - vacuum finds them, or the next driver
            _log.warning("files of batch %d, which has failed, could not be removed: %s", batch_id, error)

    def _totals(self, counts: Mapping[str, int]) -> Totals:
        own = {READ, GOOD, BAD, WARNED}
        return Totals(
            read=counts[READ],
            good=counts[GOOD],
            quarantined=counts[BAD],
            warned=counts[WARNED],
            rules={name: number for name, number in counts.items() if number and name not in own},
        )


def _sweep(folder: Place, files: Iterable[Written]) -> None:
    """Remove what no commit names, once the tables are committed. What a store keeps of it is vacuum's,
    or the next driver's: a batch that is in its tables must come to an end."""
    try:
        remove(folder, [file.path for file in files])
    except (StoreDenied, TablesUnavailable) as error:
        _log.warning("files that no commit names stay in %s for now: %s", folder, error.message)


def _check_rows(batch_id: int, place: str, written: int, counted: int) -> None:
    if written != counted:
        raise HeadgateError(
            f"batch {batch_id}: {counted} records counted for the {place}, {written} written",
            expected="the same number: nothing was committed",
            help="write `lane: jvm` on the outputs, then `headgate plan` and `headgate apply`",
        )
