"""Which windows lie wholly inside a replay's range, looked up once at its end.

For each windowed output the records outside the range are read, as far as the live stream has read them in
any lineage, and the seconds are noted in which one lies: good or bad, for an earlier contract may have
thought otherwise of it. A window that the live stream has closed gets no record any more. What retention
took before the range arrived no later than the oldest record that is left, and is of at most `max_future`
after its arrival.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kafka import TopicPartition
from pyspark.sql import Window
from pyspark.sql import functions as F

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import last_contract
from headgate.checkpoints.logs import batch_watermark, committed_offsets
from headgate.contract.facts import event_time_name
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.contract.model import Source, seconds
from headgate.replays.evidence import (
    WINDOWS_WAY,
    Evidence,
    OutputEvidence,
    Way,
    ways_of,
    windowed_source,
)
from headgate.replays.ground import writers
from headgate.replays.model import Replay, ReplayLayout
from headgate.replays.spans import MICROS, Span, free_spans
from headgate.topics.kafka import admin_client, spark_options
from headgate.topics.lag import offset_range
from headgate.topics.live import read_topics
from spark.decode import decode, raw_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from headgate.settings import Settings

__all__ = ["gather", "merged"]

# Brokers take turns in leading a partition, and their clocks differ.
_CLOCKS = 60 * MICROS

Ends = Mapping[int, int]


@dataclass(frozen=True, slots=True)
class _Topic:
    """A topic after the records outside the range were read: what is gone now was perhaps not seen."""

    lows: Ends
    ends: Ends
    compacted: bool
    broker_time: bool


def gather(spark: SparkSession, settings: Settings, frozen: FrozenContract, replay: Replay) -> Evidence:
    """`settings` are those of the live stream. Raises KafkaUnavailable, RefusedError."""
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    lineage = layout.current_lineage()
    if lineage is None:
        return Evidence("", time.time(), {})
    contracts, wrote = ContractStore(settings.state), writers(settings, frozen.pipeline, lineage)
    found = {}
    for output in frozen.stateful_outputs:
        live = contracts.get(last_contract(layout, lineage, output))
        way = next((each for each in ways_of(frozen, live, wrote) if each.output == output), None)
        if way is not None and way.kind == WINDOWS_WAY:
            seen = _Look(spark, settings, frozen, wrote, replay)
            found[output] = seen.output(way, layout, lineage)
    return Evidence(lineage, time.time(), found)


@dataclass(frozen=True, slots=True)
class _Look:
    spark: SparkSession
    settings: Settings
    frozen: FrozenContract
    wrote: Sequence[FrozenContract]
    replay: Replay

    def output(self, way: Way, layout: CheckpointLayout, lineage: str) -> OutputEvidence:
        named = windowed_source(self.frozen, way.output)
        committed = committed_offsets(layout.query(lineage, way.output))
        if committed is None:
            return OutputEvidence(why="the live stream has committed nothing of it yet")
        batch = committed.batch_id
        watermark = batch_watermark(layout.query(lineage, way.output), batch)
        if named is None or watermark is None:
            return OutputEvidence(batch=batch, why="the live stream has closed no window yet")
        name, source = named
        read: Mapping[int, int] = committed.offsets.get(self.frozen.topics[name], {})
        before = self._topic(name)
        if sum(1 for _ in layout.folder.glob("*/lineage.json")) > 1:
            read = before.ends  # an earlier lineage may have come further than this one has yet
        length = round(way.seconds * MICROS)
        why = self._unknown(name, before, read)
        times = [] if why else self._outside(name, before, read, length)
        topic = self._topic(name)
        why = why or self._unknown(name, topic, read)
        above = None if why else self._above(name, source, topic)
        if why or (above is None and any(topic.lows.values())):
            told = why or "retention has taken records before the range, and how late they were is not known"
            return OutputEvidence(batch=batch, why=told)
        closed = round(min(watermark, self._own(way)) * MICROS)
        return OutputEvidence(tuple(free_spans(times, above=above, closed=closed, length=length)), batch)

    def _own(self, way: Way) -> float:
        """Up to where the replay has written an output that is written when its windows close."""
        layout = ReplayLayout(self.settings.state, self.replay.pipeline, self.replay.id).checkpoints
        lineage = layout.current_lineage()
        if not way.closes or lineage is None:
            return math.inf
        committed = committed_offsets(layout.query(lineage, way.output))
        found = batch_watermark(layout.query(lineage, way.output), committed.batch_id) if committed else None
        return found or 0.0

    def _outside(self, name: str, topic: _Topic, read: Ends, length: int) -> list[Span]:
        """The seconds of all records outside the range, up to what the live stream has read."""
        begin, end = self._range(name)
        source = self.frozen.contract.sources[name]
        first = {number: min(low, begin[number]) for number, low in topic.lows.items()}
        last = {number: max(end[number], read[number]) for number in topic.lows}
        raw = self._records(name, first, begin).unionByName(self._records(name, end, last))
        micros = F.unix_micros(str(event_time_name(source)))
        second = ((micros - F.pmod(micros, F.lit(MICROS))) / F.lit(MICROS)).cast("bigint")
        return merged(decode(raw, source).frame.select(second.alias("second")), length)

    def _records(self, name: str, begin: Ends, end: Ends) -> DataFrame:
        topic = self.frozen.topics[name]
        reader = self.spark.read.format("kafka").option("subscribe", topic).option("failOnDataLoss", "false")
        for option, value in spark_options(self.settings).items():
            reader = reader.option(option, value)
        for option, offsets in (("startingOffsets", begin), ("endingOffsets", end)):
            text = json.dumps({topic: {str(number): offset for number, offset in sorted(offsets.items())}})
            reader = reader.option(option, text)
        return raw_columns(reader.load())

    def _range(self, name: str) -> tuple[Ends, Ends]:
        topic = self.frozen.topics[name]
        return self.replay.begin.get(topic, {}), self.replay.end.get(topic, {})

    def _topic(self, name: str) -> _Topic:
        topic = self.frozen.topics[name]
        with admin_client(self.settings) as admin:
            live = read_topics(admin, [topic])[topic]
            keys = [TopicPartition(topic, number) for number in range(live.partitions)]
            lows, ends = offset_range(admin, keys)
        configs = {key: value.value for key, value in live.configs.items()}
        return _Topic(
            {key.partition: low for key, low in lows.items()},
            {key.partition: end for key, end in ends.items()},
            "compact" in configs.get("cleanup.policy", ""),
            configs.get("message.timestamp.type") == "LogAppendTime",
        )

    def _unknown(self, name: str, topic: _Topic, read: Ends) -> str:
        """Why records outside the range are not known."""
        _, end = self._range(name)
        if topic.compacted:
            return "its topic is compacted: which records there were is not known"
        if not {*topic.lows} == {*read} == {*end}:
            return "its topic has got partitions that the range or the live stream does not know"
        for number, low in sorted(topic.lows.items()):
            if end.get(number, 0) < low and read.get(number, 0) > end.get(number, 0):
                return f"retention has taken records behind the range, in partition {number}"
        return ""

    def _above(self, name: str, source: Source, topic: _Topic) -> int | None:
        """The latest that a record which is gone can have happened; None where nothing is known of it."""
        gone = {number: low for number, low in topic.lows.items() if low > 0}
        if not gone or not topic.broker_time or source.event_time is None:
            return None
        begin = {number: gone.get(number, 0) for number in topic.lows}
        end = {number: low + (number in gone) for number, low in begin.items()}
        arrivals = (
            self._records(name, begin, end)
            .groupBy("_partition")
            .agg(F.max(F.unix_micros("_arrival")).alias("arrival"))
            .collect()
        )
        if {row["_partition"] for row in arrivals} != {*gone}:
            return None
        read = [
            each.contract.sources[other]
            for each in self.wrote
            for other, topic_name in each.topics.items()
            if topic_name == self.frozen.topics[name]
        ]
        clocks = (each.event_time for each in (source, *read))
        future = max(seconds(each.max_future) for each in clocks if each is not None)
        return int(max(row["arrival"] for row in arrivals)) + round(future * MICROS) + _CLOCKS


def merged(rows: DataFrame, length: int) -> list[Span]:
    """The distinct seconds of a frame, as pairs of a first and a last one, put together where no row of this
    length fits in between: what comes to Python is bounded by the windows that there are."""
    order = Window.orderBy("second")
    gap = (F.col("second") - F.lag("second").over(order) - 1) * MICROS
    apart = F.coalesce(gap >= max(length, 1), F.lit(True)).cast("bigint")
    seconds_there = rows.where(F.col("second").isNotNull()).distinct()
    numbered = seconds_there.select("second", apart.alias("apart")).select(
        "second", F.sum("apart").over(order).alias("number")
    )
    pairs = numbered.groupBy("number").agg(F.min("second").alias("first"), F.max("second").alias("last"))
    table = pairs.select("first", "last").toArrow()
    return sorted(zip(table["first"].to_pylist(), table["last"].to_pylist(), strict=True))
