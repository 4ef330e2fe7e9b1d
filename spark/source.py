"""The Kafka source of a query, named, with the options that headgate sets and those a contract may."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING

from headgate.batches.bounds import reader_options
from headgate.contract.model import Contract, Source, StartAt, seconds
from headgate.topics.kafka import spark_options
from spark.decode import raw_columns

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from headgate.contract.frozen import FrozenContract
    from headgate.settings import Settings

__all__ = ["Caps", "Starts", "patience_seconds", "read_all", "read_source"]

_PATIENCE_SECONDS = 5.0

Starts = Mapping[str, Mapping[int, int]]
Caps = Mapping[str, int]  # source to the records of it that a batch may have


def read_source(
    spark: SparkSession,
    settings: Settings,
    frozen: FrozenContract,
    name: str,
    starts: Starts | None = None,
    *,
    ends: Starts | None = None,
    caps: Caps | None = None,
    patient: bool = False,
) -> DataFrame:
    """The stream of one source as `raw_columns`. Every query of a pipeline has its own.

    `starts` are the offsets at which a lineage with an origin begins, by topic. Of a query that has `ends`
    no record from there on is seen: the source itself knows no end. `caps` may be less than the contract's
    number of records, never more. A `patient` query has a batch when it is full, or has waited for
    `patience_seconds`.
    """
    contract = frozen.contract
    source = contract.sources[name]
    cap = (caps or {}).get(name, contract.job.max_records_per_batch)
    queries, master = 1 + len(frozen.stateful_outputs), settings.spark.master
    ours = reader_options(contract, name, queries, cap, master)
    reader = spark.readStream.format("kafka").name(name)
    for option, value in {**ours, **source.options, **spark_options(settings)}.items():
        reader = reader.option(option, str(value))
    reader = reader.option("subscribe", frozen.topics[name]).option("failOnDataLoss", "true")
    if patient:
        patience = round(1000 * patience_seconds(contract))
        reader = reader.option("minOffsetsPerTrigger", str(cap)).option("maxTriggerDelay", f"{patience}ms")
    for option, text in _start(source, frozen.topics[name], starts or {}).items():
        reader = reader.option(option, text)
    raw = raw_columns(reader.load())
    return raw if ends is None else raw.where(_before(ends.get(frozen.topics[name], {})))


def patience_seconds(contract: Contract) -> float:
    """How long records may wait for a query that only screens and counts: the books and the quarantine are
    behind the results by so much. A stream that is to be fresher has half of its freshness."""
    return min(_PATIENCE_SECONDS, seconds(contract.slo.freshness) / 2)


def read_all(
    spark: SparkSession,
    settings: Settings,
    frozen: FrozenContract,
    starts: Starts | None = None,
    ends: Starts | None = None,
    *,
    caps: Caps | None = None,
) -> DataFrame:
    """All sources, for the record query; with several, each record carries its source's name.

    Where no output passes records on, nobody waits for this query: it screens and counts, and would take the
    machine from the queries whose results are waited for with as many small batches as they have.
    """
    from pyspark.sql import functions as F

    patient = ends is None and not frozen.record_outputs
    frames = {
        name: read_source(spark, settings, frozen, name, starts, ends=ends, caps=caps, patient=patient)
        for name in frozen.contract.sources
    }
    if len(frames) == 1:
        return next(iter(frames.values()))
    named = [frame.withColumn("_source", F.lit(name)) for name, frame in frames.items()]
    return reduce(lambda left, right: left.unionByName(right), named)


def _before(ends: Mapping[int, int]) -> Column:
    """Whether a record lies before the end of its partition; a partition without one has no records."""
    from pyspark.sql import functions as F

    inside = F.lit(False)
    for number, end in sorted(ends.items()):
        inside = inside | ((F.col("_partition") == number) & (F.col("_offset") < end))
    return inside


def _start(source: Source, topic: str, starts: Starts) -> dict[str, str]:
    """Where a new checkpoint begins; an existing one goes on from its offsets whatever this says."""
    if topic in starts:
        by_number = {str(number): offset for number, offset in sorted(starts[topic].items())}
        return {"startingOffsets": json.dumps({topic: by_number})}
    if isinstance(source.start, StartAt):
        # Only for a query that came later than its lineage: the first ones have offsets.
        moment = round(datetime.fromisoformat(source.start.timestamp).timestamp() * 1000)
        return {"startingTimestamp": str(moment), "startingOffsetsByTimestampStrategy": "latest"}
    return {"startingOffsets": source.start}
