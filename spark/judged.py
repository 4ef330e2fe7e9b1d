"""When the records of a replay's range happened that were quarantined, by the live stream or by the replay.

A swap moves those that only one of the two took for bad between the quarantine and the outputs; it needs to
know into which windows they fall. The quarantine has their bytes, and both contracts read the event time
alike wherever windows are swapped.
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from headgate.checkpoints.layout import quarantine_table
from headgate.contract.facts import event_time_name
from spark.decode import decode

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from headgate.contract.frozen import FrozenContract
    from headgate.contract.model import Source
    from headgate.replays.model import Replay

__all__ = ["event_times", "note_judged"]


def note_judged(
    spark: SparkSession, roots: tuple[Path, Path], frozen: FrozenContract, replay: Replay, to: Path
) -> None:
    """Write them as Parquet; done again it is the same. `roots` are the live tables and the replay's own."""
    tables = [quarantine_table(root, replay.pipeline) for root in roots]
    found = [
        event_times(spark.read.format("delta").load(str(table)), frozen, name, replay)
        for table in tables
        if (table / "_delta_log").is_dir()
        for name in frozen.contract.sources
    ]
    every = reduce(lambda left, right: left.unionByName(right), found).distinct()
    every.coalesce(8).write.mode("overwrite").parquet(str(to))


def event_times(rows: DataFrame, frozen: FrozenContract, name: str, replay: Replay) -> DataFrame:
    """Of a source's records in the range that a quarantine holds: where they are from, and `at` in
    microseconds, NULL for one without an event time."""
    source, topic = frozen.contract.sources[name], frozen.topics[name]
    inside = (F.col("source") == name) & (F.col("topic") == topic) & _inside(replay, topic)
    raw = rows.where(inside).select(
        F.col("key").alias("_key"),
        F.col("value").alias("_value"),
        F.col("topic").alias("_topic"),
        F.col("partition").alias("_partition"),
        F.col("offset").alias("_offset"),
        F.col("timestamp").alias("_arrival"),
        F.current_timestamp().alias("_now"),
    )
    return decode(raw, source).frame.select(
        F.lit(name).alias("source"),
        F.col("_topic").alias("topic"),
        F.col("_partition").alias("partition"),
        F.col("_offset").alias("offset"),
        _at(source).alias("at"),
    )


def _at(source: Source) -> Column:
    name = event_time_name(source)
    return F.unix_micros(name) if name is not None else F.lit(None).cast("bigint")


def _inside(replay: Replay, topic: str) -> Column:
    found = F.lit(False)
    for number, end in sorted(replay.end.get(topic, {}).items()):
        first = replay.begin[topic][number]
        found = found | ((F.col("partition") == number) & F.col("offset").between(first, end - 1))
    return found
