"""One batch of records through either lane of the record query, and everything that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from contract_examples import contract_of
from spark_batch import ARRIVED, kafka_frame

from headgate.batches.caps import BatchCaps
from headgate.checkpoints.books import Page, Totals
from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze
from headgate.topics.lake import carry_out_table
from headgate.topics.tables import compare_table, desired_tables
from spark.delta import DeltaSink

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from headgate.formats.decoder import Writers

__all__ = ["Outcome", "frozen_of", "lane_context", "run_batch", "run_both"]

SPARK_NAMES = {"int": "integer"}


def frozen_of(
    source: Mapping[str, Any], outputs: Mapping[str, Any], types: Mapping[str, Mapping[str, str]],
    *, stateful: bool = False,
) -> FrozenContract:  # fmt: skip
    """A contract of one source `a` on the topic `t`. `types`: what Spark would say of each output."""
    resolved = {
        name: ResolvedOutput(
            stateful,
            {
                "type": "struct",
                "fields": [
                    {"name": column, "type": SPARK_NAMES.get(kind, kind), "nullable": True, "metadata": {}}
                    for column, kind in columns.items()
                ],
            },
        )
        for name, columns in types.items()
    }
    contract = contract_of({"a": dict(source)}, {name: dict(spec) for name, spec in outputs.items()})
    return freeze(
        contract, topics={"a": "t"}, replication=1, outputs=resolved, env="local", headgate_version="0"
    )


def lane_context(frozen: FrozenContract, folder: Path, writers: Writers | None = None) -> Any:
    """What a lane needs of its driver; the tables are made where they are not there yet. `writers` finds the
    schemas of the source's records."""
    for table in desired_tables(frozen):
        path = folder / frozen.pipeline / table.table
        if not path.exists():
            for action in compare_table(table, None)[0]:
                carry_out_table(folder, action)

    def sink(output: str, query: str) -> DeltaSink:
        (target,) = frozen.contract.outputs[output].to
        return sinks.setdefault(output, DeltaSink(folder / frozen.pipeline / str(target.delta), output))

    def quarantine(source: str) -> DeltaSink:
        path = folder / frozen.pipeline / "_quarantine"
        return sinks.setdefault("_quarantine", DeltaSink(path, f"_quarantine.{source}"))

    sinks: dict[str, DeltaSink] = {}
    return SimpleNamespace(
        settings=SimpleNamespace(tables=folder),
        frozen=frozen,
        books=folder / "books",
        generation=1,
        epoch=1,
        lineage=SimpleNamespace(id="l1"),
        writers={"a": writers} if writers is not None else {},
        caps=BatchCaps(frozen),
        sink=sink,
        quarantine_sink=quarantine,
        before_batch=lambda: None,
        before_write=lambda: None,
    )


@dataclass(frozen=True)
class Outcome:
    """Rows of each table with their order taken away, their types, and the books."""

    rows: Mapping[str, list[dict[str, Any]]]
    types: Mapping[str, list[str]]
    batch: Totals
    example: str = field(default="", compare=False)


def run_batch(
    spark: SparkSession, context: Any, lane_name: str, values: Sequence[bytes | None], batch_id: int = 0,
    *, arrived: datetime = ARRIVED, partitions: int = 1,
) -> Outcome:  # fmt: skip
    from spark.arrow_lane import ArrowLane
    from spark.decode import raw_columns
    from spark.lane import Lane
    from spark.record import RecordQuery

    pages: list[Page] = []
    lane: Lane = {"arrow": ArrowLane, "jvm": RecordQuery}[lane_name](context, pages.append)
    raw = raw_columns(kafka_frame(spark, values, arrived=arrived).coalesce(partitions))
    # As a stream sets it before each batch.
    spark.sparkContext.setLocalProperty("streaming.sql.batchId", str(batch_id))
    lane.commit(lane.frame(raw), batch_id)
    (page,) = pages
    return outcome_of(spark, context, page, lane.example)


def outcome_of(spark: SparkSession, context: Any, page: Page, example: str) -> Outcome:
    names = {name: context.sink(name, "records").path for name in context.frozen.record_outputs}
    names["_quarantine"] = context.quarantine_sink("a").path
    rows, types = {}, {}
    for name, path in names.items():
        # Spark writes times as INT96, which pyarrow reads as nanoseconds: too narrow for the year 2.
        table = spark.read.format("delta").load(str(path)).toArrow()
        found = table.drop_columns([c for c in ("quarantined_at",) if c in table.column_names]).to_pylist()
        rows[name] = sorted(found, key=lambda row: tuple(map(repr, row.values())))
        types[name] = [f"{field.name} {field.type}" for field in table.schema]
    return Outcome(rows, types, page.batch, example)


def run_both(
    spark: SparkSession, frozen: FrozenContract, folder: Path, values: Sequence[bytes | None], **more: Any
) -> tuple[Outcome, Outcome]:
    """The same batch through the JVM lane and the Arrow lane, into tables of their own."""
    jvm, arrow = (
        run_batch(spark, lane_context(frozen, folder / name), name, values, **more)
        for name in ("jvm", "arrow")
    )
    return jvm, arrow
