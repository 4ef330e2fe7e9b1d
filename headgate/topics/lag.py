"""How far each query is behind its topics: checkpoint against end offsets, whether a driver lives or not.

Records are exact. Seconds are the age, by Kafka's timestamp, of the oldest record that is not read: one
record is fetched per lagging partition, nothing is interpolated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.protocol.consumer import OffsetSpec

from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.logs import CommittedOffsets, committed_offsets
from headgate.contract.facts import output_facts
from headgate.contract.frozen import FrozenContract
from headgate.contract.model import Source, StartAt
from headgate.contract.sql import parse_output
from headgate.errors import RefusedError
from headgate.settings import Settings
from headgate.topics.kafka import admin_client, consumer_client
from headgate.topics.live import topic_partitions

__all__ = [
    "PartitionLag",
    "QueryLag",
    "StreamLag",
    "initial_offsets",
    "offset_range",
    "oldest",
    "queries_of",
    "stream_lag",
    "stream_lags",
]

# Reading one record per partition is a few milliseconds; a partition that does not answer in this time
# is reported without seconds rather than holding up everybody's scrape.
OLDEST_RECORD_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """`committed` is None before the query's first commit, and then `position` is where it would begin.

    `seconds` is 0.0 when nothing is unread, None when the oldest unread record could not be read.
    """

    topic: str
    partition: int
    committed: int | None
    position: int
    low: int
    end: int
    seconds: float | None = None

    @property
    def records(self) -> int:
        return max(0, self.end - self.position)

    @property
    def lost(self) -> int:
        """Records that retention took before they were read."""
        return max(0, self.low - self.committed) if self.committed is not None else 0


@dataclass(frozen=True, slots=True)
class QueryLag:
    query: str
    batch_id: int | None
    partitions: tuple[PartitionLag, ...]

    @property
    def records(self) -> int:
        return sum(each.records for each in self.partitions)

    @property
    def seconds(self) -> float | None:
        return oldest(self.partitions)


def oldest(parts: Iterable[PartitionLag | QueryLag]) -> float | None:
    """The greatest age of what is unread. None where one is not known: the others would be too good a
    number, 0.0 where they have nothing unread."""
    parts = list(parts)
    if any(each.records and each.seconds is None for each in parts):
        return None
    return max((each.seconds for each in parts if each.seconds is not None), default=None)


@dataclass(frozen=True, slots=True)
class StreamLag:
    """A stream is as far behind as its worst query. `problems` says what could not be looked at."""

    pipeline: str
    at: float
    queries: Mapping[str, QueryLag]
    problems: tuple[str, ...] = ()

    @property
    def records(self) -> int:
        return max((each.records for each in self.queries.values()), default=0)

    @property
    def seconds(self) -> float | None:
        return oldest(self.queries.values())

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "records": self.records, "seconds": self.seconds}


@dataclass(slots=True)
class _Draft:
    """One pipeline while it is being looked at."""

    contract: FrozenContract
    begun: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)  # by query and source
    committed: dict[str, CommittedOffsets | None] = field(default_factory=dict)
    partitions: dict[str, list[PartitionLag]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def stream_lag(settings: Settings, contract: FrozenContract) -> StreamLag:
    """The lag of one pipeline. A missing topic is a problem in the answer; Kafka that does not answer
    raises KafkaUnavailable."""
    return stream_lags(settings, [contract])[contract.pipeline]


def stream_lags(settings: Settings, contracts: Sequence[FrozenContract]) -> dict[str, StreamLag]:
    """The lag of several pipelines over one connection. Raises KafkaUnavailable."""
    drafts = [_read_checkpoint(settings, contract) for contract in contracts]
    with admin_client(settings) as admin:
        topics = sorted({topic for each in contracts for topic in each.topics.values()})
        counts = {name: count for name, (_, count) in topic_partitions(admin, topics).items()}
        keys = [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]
        lows, ends = offset_range(admin, keys)
        for draft in drafts:
            _compare(draft, counts, lows, ends, admin)
    now = time.time()
    ages = _oldest_unread(
        settings, [p for d in drafts for found in d.partitions.values() for p in found], now
    )
    return {draft.contract.pipeline: _finished(draft, ages, now) for draft in drafts}


def queries_of(contract: FrozenContract) -> dict[str, list[str]]:
    """Query to the sources it reads: the record query reads all, a stateful one those of its SQL."""
    sources = list(contract.topics)
    found = {RECORDS: sources}
    for name in contract.stateful_outputs:
        sql = contract.contract.outputs[name].sql
        query = parse_output(sql, sources) if sql is not None else []
        found[name] = sources if isinstance(query, list) else list(output_facts(query, sources).sources)
    return found


def offset_range(
    admin: KafkaAdminClient, keys: Sequence[TopicPartition]
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """First offset that is still there, and the one after the last, of each partition."""
    if not keys:
        return {}, {}
    low = admin.list_partition_offsets(dict.fromkeys(keys, OffsetSpec.EARLIEST))
    end = admin.list_partition_offsets(dict.fromkeys(keys, OffsetSpec.LATEST))
    return {k: v.offset for k, v in low.items()}, {k: v.offset for k, v in end.items()}


def _read_checkpoint(settings: Settings, contract: FrozenContract) -> _Draft:
    draft = _Draft(contract)
    layout = CheckpointLayout(settings.checkpoints, contract.pipeline)
    lineage = layout.current_lineage()
    for query, sources in queries_of(contract).items():
        draft.committed[query] = None
        if lineage is None:
            continue
        folder = layout.query(lineage, query)
        try:
            draft.committed[query] = committed_offsets(folder)
            for source in sources:
                draft.begun[query, source] = initial_offsets(folder, source)
        except RefusedError as error:
            del draft.committed[query]  # nothing is known: no number is better than a wrong one
            draft.problems.append(f"query {query}: {error.message}")
    return draft


def initial_offsets(query: Path, source: str) -> dict[int, int]:
    """Where a source began, as Spark noted it at the first start; empty before that."""
    try:
        _, _, text = (query / "sources" / source / "0").read_text(encoding="utf-8").partition("\n")
        noted: dict[str, dict[str, int]] = json.loads(text)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise RefusedError(f"{query / 'sources' / source / '0'} is not what Spark writes: {error}") from error
    return {int(number): offset for offsets in noted.values() for number, offset in offsets.items()}


def _compare(
    draft: _Draft,
    counts: Mapping[str, int],
    lows: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    admin: KafkaAdminClient,
) -> None:
    contract = draft.contract
    draft.problems += [f"topic {t} is not there" for t in sorted({*contract.topics.values()} - {*counts})]
    sources_of = queries_of(contract)
    starts: dict[str, dict[TopicPartition, int]] = {}
    for query, committed in draft.committed.items():
        found = draft.partitions.setdefault(query, [])
        for source in sources_of[query]:
            topic = contract.topics[source]
            known = committed.offsets.get(topic, {}) if committed is not None else {}
            keys = [TopicPartition(topic, number) for number in range(counts.get(topic, 0))]
            if committed is None and source not in starts:
                starts[source] = _start(contract.contract.sources[source], lows, ends, keys, admin)
            for key in keys:
                # A partition that was added later is read from its beginning.
                begin = starts[source][key] if committed is None else lows[key]
                begin = draft.begun.get((query, source), {}).get(key.partition, begin)
                offset = known.get(key.partition)
                position = max(begin if offset is None else offset, lows[key])
                found.append(PartitionLag(topic, key.partition, offset, position, lows[key], ends[key]))


def _start(
    source: Source,
    lows: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    keys: Sequence[TopicPartition],
    admin: KafkaAdminClient,
) -> dict[TopicPartition, int]:
    """Where a new checkpoint of this source would begin."""
    if source.start == "earliest":
        return {key: lows[key] for key in keys}
    if not isinstance(source.start, StartAt) or not keys:
        return {key: ends[key] for key in keys}
    moment = round(datetime.fromisoformat(source.start.timestamp).timestamp() * 1000)
    found = admin.list_partition_offsets(dict.fromkeys(keys, moment))
    return {key: found[key].offset if found[key].offset >= 0 else ends[key] for key in keys}


def _oldest_unread(
    settings: Settings, partitions: Iterable[PartitionLag], now: float
) -> dict[tuple[str, int, int], float]:
    """Age of the first record at or after each position, by (topic, partition, position)."""
    wanted = {(each.topic, each.partition, each.position) for each in partitions if each.records}
    ages: dict[tuple[str, int, int], float] = {}
    if not wanted:
        return ages
    # One byte: the broker answers with a single batch, the smallest it can give.
    with consumer_client(settings, max_partition_fetch_bytes=1, auto_offset_reset="earliest") as consumer:
        deadline = time.monotonic() + OLDEST_RECORD_SECONDS
        while wanted and time.monotonic() < deadline:
            # Two queries may be at different places of one partition: one place at a time.
            now_asked = {
                (topic, number): position for topic, number, position in sorted(wanted, reverse=True)
            }
            consumer.assign([TopicPartition(topic, number) for topic, number in now_asked])
            for (topic, number), position in now_asked.items():
                consumer.seek(TopicPartition(topic, number), position)
            for key, records in consumer.poll(timeout_ms=500, max_records=len(now_asked) * 1000).items():
                position = now_asked[(key.topic, key.partition)]
                ages[(key.topic, key.partition, position)] = max(0.0, now - records[0].timestamp / 1000)
                wanted.discard((key.topic, key.partition, position))
    return ages


def _finished(draft: _Draft, ages: Mapping[tuple[str, int, int], float], now: float) -> StreamLag:
    queries = {}
    for query, partitions in draft.partitions.items():
        committed = draft.committed[query]
        dated = tuple(
            PartitionLag(
                each.topic,
                each.partition,
                each.committed,
                each.position,
                each.low,
                each.end,
                ages.get((each.topic, each.partition, each.position)) if each.records else 0.0,
            )
            for each in partitions
        )
        draft.problems += [
            f"query {query}: {each.topic}/{each.partition} lost offsets {each.committed} to {each.low - 1} "
            "to retention before they were read"
            for each in dated
            if each.lost
        ]
        queries[query] = QueryLag(query, committed.batch_id if committed is not None else None, dated)
    return StreamLag(draft.contract.pipeline, now, queries, tuple(draft.problems))
