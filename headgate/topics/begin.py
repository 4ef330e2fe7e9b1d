"""Looks up what an origin means today: where it lies in each topic, and where the stream stands.

Reads checkpoints and asks the broker; changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, TopicPartition

from headgate.checkpoints.choices import OriginPlan, Place, begin_at
from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import has_history
from headgate.checkpoints.logs import committed_offsets
from headgate.checkpoints.origin import Origin
from headgate.checkpoints.sinks import sinks_of
from headgate.contract.frozen import FrozenContract
from headgate.contract.model import StartAt
from headgate.errors import RefusedError, UsageError
from headgate.settings import Settings
from headgate.streams.store import StateStore
from headgate.topics.kafka import admin_client
from headgate.topics.lag import offset_range, queries_of
from headgate.topics.live import topic_partitions

__all__ = [
    "accept_topics",
    "by_topic",
    "first_at",
    "first_origin",
    "moment_of",
    "offsets_from",
    "places_of",
    "plan_origin",
    "topic_ranges",
]

Found = dict[str, dict[int, int]]


def plan_origin(
    settings: Settings, frozen: FrozenContract, kind: str, *, timestamp: str = "", offsets: Path | None = None
) -> OriginPlan:
    """What `--from KIND` would do. Raises UsageError, RefusedError, KafkaUnavailable."""
    moment = moment_of(timestamp) if kind == "timestamp" else 0
    given = offsets_from(offsets) if kind == "offsets" and offsets is not None else {}
    with admin_client(settings) as admin:
        lows, ends = topic_ranges(admin, frozen)
        places = places_of(settings, frozen, lows, ends)
        if kind == "earliest":
            found = by_topic(lows)
        elif kind == "latest":
            found = by_topic(ends)
        elif kind == "timestamp":
            found = by_topic(first_at(admin, ends, moment))
        else:
            found = given
    origin = Origin(kind, offsets=found, note=timestamp if kind == "timestamp" else "")
    sinks = sinks_of(frozen)
    written = {
        sink.table
        for sink in sinks
        if has_history(sink.path(settings.tables, frozen.pipeline), frozen.pipeline)
    }
    return begin_at(frozen.pipeline, origin, places, sinks, frozenset(written))


def first_origin(settings: Settings, frozen: FrozenContract) -> dict[str, Any] | None:
    """Where a pipeline's first lineage begins, as lineage.json keeps it; None where that is `earliest`.

    Looked up once for all queries: each asking for `latest` by itself would begin at records of its own,
    and what came in between would be good in one and unknown to the other. Raises KafkaUnavailable.
    """
    starts = {frozen.topics[name]: source.start for name, source in frozen.contract.sources.items()}
    late = {topic: start for topic, start in starts.items() if start != "earliest"}
    if not late:
        return None
    with admin_client(settings) as admin:
        _, ends = topic_ranges(admin, frozen)
        found: Found = {}
        for topic, start in late.items():
            own = {key: end for key, end in ends.items() if key.topic == topic}
            offsets = first_at(admin, own, moment_of(start.timestamp)) if isinstance(start, StartAt) else own
            found |= by_topic(offsets)
    origin = Origin("offsets", offsets=found, note="the contract's start")
    return {**origin.to_json(), "queries": sorted(queries_of(frozen))}


def accept_topics(settings: Settings, frozen: FrozenContract) -> None:
    """Remember the ids that the topics have now: a lineage that begins at their present offsets means these
    and no earlier ones. Only once the order is given: until then the old checkpoint counts."""
    with admin_client(settings) as admin, closing(StateStore(settings.store_url)) as store:
        for name, (id, _) in sorted(topic_partitions(admin, frozen.topics.values()).items()):
            if store.topic_id(name) != id:
                owner = store.topic_owner(name) or frozen.pipeline
                store.remember_topic(name, id, owner, time.time())


def places_of(
    settings: Settings,
    frozen: FrozenContract,
    lows: Mapping[TopicPartition, int] | None = None,
    ends: Mapping[TopicPartition, int] | None = None,
) -> list[Place]:
    """Every partition of every query. A checkpoint that is gone or cannot be read has committed nothing
    that could be told."""
    if lows is None or ends is None:
        with admin_client(settings) as admin:
            lows, ends = topic_ranges(admin, frozen)
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    places = []
    for query, sources in queries_of(frozen).items():
        known = _committed(layout, query)
        topics = sorted({frozen.topics[source] for source in sources})
        for key in sorted(lows):
            if key.topic in topics:
                committed = known.get(key.topic, {}).get(key.partition)
                places.append(Place(query, key.topic, key.partition, lows[key], ends[key], committed))
    return places


def offsets_from(path: Path) -> Found:
    """`{"topic": {"0": 12}}` from a file. Raises UsageError."""
    form = '{"<topic>": {"0": <offset>, "1": <offset>}}, with every partition'
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        found = {
            str(topic): {int(number): _whole(offset) for number, offset in partitions.items()}
            for topic, partitions in data.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} does not hold offsets: {error}", expected=form) from error
    return found


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not an offset")
    return value


def moment_of(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a time", expected="ISO 8601, such as 2026-01-31T06:00:00Z"
        ) from error
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def topic_ranges(
    admin: KafkaAdminClient, frozen: FrozenContract
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    topics = topic_partitions(admin, frozen.topics.values())
    missing = sorted({*frozen.topics.values()} - {*topics})
    if missing:
        raise RefusedError(f"there is no topic {', '.join(missing)}", help="headgate plan")
    keys = [TopicPartition(name, number) for name, (_, count) in topics.items() for number in range(count)]
    return offset_range(admin, keys)


def first_at(
    admin: KafkaAdminClient, ends: Mapping[TopicPartition, int], moment: int
) -> dict[TopicPartition, int]:
    """The first record at or after a time in each partition; the end where there is none."""
    found = admin.list_partition_offsets(dict.fromkeys(ends, moment))
    return {key: found[key].offset if found[key].offset >= 0 else end for key, end in ends.items()}


def by_topic(offsets: Mapping[TopicPartition, int]) -> Found:
    found: Found = {}
    for key, offset in offsets.items():
        found.setdefault(key.topic, {})[key.partition] = offset
    return found


def _committed(layout: CheckpointLayout, query: str) -> Mapping[str, Mapping[int, int]]:
    lineage = layout.current_lineage()
    if lineage is None:
        return {}
    try:
        known = committed_offsets(layout.query(lineage, query))
    except RefusedError:
        return {}
    return known.offsets if known is not None else {}
