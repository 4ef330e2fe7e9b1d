"""What a task of the Arrow lane does: decode, screen, write files, and report.

It runs in a Python worker of Spark's, before `writeStream`. Its rows are few: records that the driver has to
look at, bad ones that come along, and one report. What would be too much to carry is written to a file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from headgate.arrow.files import TableFiles, batch_mark
from headgate.arrow.plan import RecordPlan, plan_records
from headgate.arrow.quarantine import QUARANTINE, newest, quarantine_rows
from headgate.arrow.screen import RAW, Judged, Screen, record_bytes
from headgate.contract.frozen import FrozenContract
from headgate.contract.refusal import RecordPlace
from headgate.errors import HeadgateError
from headgate.formats.decoder import Writers
from headgate.tables.place import Place

__all__ = ["ROWS", "ROWS_DDL", "TaskOrder", "task"]

ROWS = pa.schema(
    [pa.field("report", pa.string()), *RAW, pa.field("reasons", pa.list_(pa.field("element", pa.string())))]
)
ROWS_DDL = (
    "report string, _key binary, _value binary, _partition int, _offset bigint, _arrival timestamp, "
    "_now timestamp, reasons array<string>"
)
# What a task carries along for the driver, of bad records and of doubtful ones; see also `TaskOrder.carried`.
CARRIED_ROWS, CARRIED_BYTES = 1_000, 1024 * 1024
# Spark's own word for the batch that a task belongs to.
_BATCH = "streaming.sql.batchId"


@dataclass(frozen=True, slots=True)
class TaskOrder:
    """Where a task writes, and for what. `shared` is what all records of a batch have in the quarantine."""

    contract: str  # the frozen contract's JSON
    topic: str
    folders: Mapping[str, Place]  # output to its table's folder
    quarantine: Place
    aside: Place  # for doubtful records that are too many to carry
    mark: str  # how the names of all files begin
    carried: int  # bytes that a task may carry along, where that is less than CARRIED_BYTES
    shared: Mapping[str, tuple[Any, str]]
    writers: Writers | None = None  # finds the schemas of records that carry a registry's id


@lru_cache(maxsize=4)
def _plan(contract: str) -> RecordPlan:
    return plan_records(FrozenContract.from_json(json.loads(contract)))


def task(order: TaskOrder) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`; its input has the columns of RAW, its output those of ROWS."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        work = _Work(order, _plan(order.contract))
        try:
            for batch in batches:
                work.take(pa.Table.from_batches([batch]).cast(RAW))
            rows = work.end()
        except BaseException:
            work.abandon()
            raise
        yield from rows.to_batches()

    return run


class _Work:
    def __init__(self, order: TaskOrder, plan: RecordPlan) -> None:
        self._screen = Screen(plan, order.topic, order.writers)
        self._counts: Counter[str] = Counter()
        self._bytes = 0
        self._examples: list[tuple[int, int]] = []  # offset and partition of bad records
        self._refused: dict[str, RecordPlace] = {}
        prefix = batch_mark(order.mark, _batch())
        self._outputs = {
            each.name: TableFiles(order.folders[each.name], each.schema, prefix) for each in plan.outputs
        }
        shape = _QuarantineShape(order, plan.source_name)
        most = min(order.carried, CARRIED_BYTES)
        self._bad = _Carried(TableFiles(order.quarantine, QUARANTINE, prefix), shape, most)
        self._doubtful = _Carried(
            TableFiles(order.aside, RAW, prefix), lambda records: records.select(RAW.names), most
        )

    def take(self, records: pa.Table) -> None:
        self._bytes += record_bytes(records)
        judged: Judged = self._screen.judge(records)
        self._counts.update(judged.counts)
        self._refused = {**judged.refused, **self._refused}  # a task reads its partition in order
        for name, rows in judged.good.items():
            self._outputs[name].write(rows)
        self._examples = [*self._examples, *newest(judged.bad)][-1:]
        self._bad.take(judged.bad)
        self._doubtful.take(judged.doubtful)

    def end(self) -> pa.Table:
        files = {name: each.close() for name, each in self._outputs.items()}
        report = {
            "counts": self._counts,
            "bytes": self._bytes,
            "examples": self._examples,
            "refused": {rule: [place.partition, place.offset] for rule, place in self._refused.items()},
            "outputs": {name: [one.to_json() for one in each] for name, each in files.items()},
            "quarantine": [one.to_json() for one in self._bad.files.close()],
            "aside": [one.to_json() for one in self._doubtful.files.close()],
        }
        told = pa.table({"report": [json.dumps(report)]})
        return pa.concat_tables([_as_rows(each) for each in (told, *self._bad.rows, *self._doubtful.rows)])

    def abandon(self) -> None:
        for files in (*self._outputs.values(), self._bad.files, self._doubtful.files):
            files.abandon()


class _Carried:
    """Records for the driver: in its rows while they are few, in files from then on."""

    def __init__(self, files: TableFiles, shape: Callable[[pa.Table], pa.Table], most: int) -> None:
        self.files = files
        self._most = most
        self.rows: list[pa.Table] = []
        self._shape = shape
        self._count = self._bytes = 0

    def take(self, records: pa.Table) -> None:
        if not records.num_rows:
            return
        self._count += records.num_rows
        self._bytes += records.nbytes
        if self._count <= CARRIED_ROWS and self._bytes <= self._most:
            self.rows.append(records)
        else:
            self.files.write(self._shape(records))


class _QuarantineShape:
    """Bad records as rows of the quarantine, which name their batch."""

    def __init__(self, order: TaskOrder, source: str) -> None:
        self._order = order
        self._source = source
        self._shared: Mapping[str, tuple[Any, str]] | None = None

    def __call__(self, bad: pa.Table) -> pa.Table:
        if self._shared is None:
            self._shared = {**self._order.shared, "batch_id": (_batch_id(), "bigint")}
        return quarantine_rows(bad, self._order.topic, self._source, self._shared)


def _batch() -> int | None:
    """The batch that this task belongs to, as far as Spark tells."""
    from pyspark import TaskContext

    context = TaskContext.get()
    found = context.getLocalProperty(_BATCH) if context is not None else None
    return int(found) if found is not None else None


def _batch_id() -> int:
    found = _batch()
    if found is None:
        raise HeadgateError(
            "a task does not know its batch, and cannot write bad records for it",
            expected=f"Spark's property {_BATCH}, which every task of a stream has",
            help="write `lane: jvm` on the outputs, then `headgate plan` and `headgate apply`",
        )
    return found


def _as_rows(records: pa.Table) -> pa.Table:
    missing = [field for field in ROWS if field.name not in records.column_names]
    for field in missing:
        records = records.append_column(field, pa.nulls(records.num_rows, field.type))
    return records.select(ROWS.names).cast(ROWS)
