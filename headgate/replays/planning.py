"""Looks up what a replay would read, and whether it can: retention, topics, memory. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, TopicPartition

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import read_lineage
from headgate.checkpoints.snapshots import new_id
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.errors import RefusedError
from headgate.replays.model import KIND, Replay, ReplayLayout, find_replays
from headgate.replays.ranges import PartitionRange, Place, cut
from headgate.replays.room import room_problems
from headgate.settings import Settings
from headgate.streams.operations import operations_in
from headgate.streams.store import StateStore
from headgate.tables.place import on_disk
from headgate.topics.begin import first_at, moment_of, offsets_from, topic_ranges
from headgate.topics.capacity import driver_memory, machine_memory
from headgate.topics.kafka import admin_client
from headgate.topics.live import topic_partitions
from headgate.topics.tables import desired_tables

__all__ = ["ACTIVE", "ReplayPlan", "make_tables", "plan_replay", "topics_changed"]

# States in which a driver of a replay runs or will.
ACTIVE = ("requested", "running")
_MB = 1024 * 1024

Found = dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What would be read, and where it would go; with `problems` it must not be ordered."""

    replay: Replay
    ranges: tuple[PartitionRange, ...]
    folder: Path
    tables: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    help: str = ""

    @property
    def records(self) -> int:
        return sum(each.records for each in self.ranges)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.replay.id,
            "pipeline": self.replay.pipeline,
            "contract_hash": self.replay.contract_hash,
            "range": self.replay.told,
            "records": self.records,
            "partitions": [each.to_json() for each in self.ranges],
            "folder": str(self.folder),
            "tables": list(self.tables),
            "notes": list(self.notes),
            "problems": list(self.problems),
        }


def plan_replay(
    settings: Settings, pipeline: str, begin: Place, end: Place, *, contract: str = "applied", by: str
) -> ReplayPlan:
    """Raises NotFoundError, UsageError, RefusedError, KafkaUnavailable, StoreUnavailable."""
    frozen = _contract(settings, pipeline, contract)
    on_disk(settings.tables, "a replay")
    with admin_client(settings) as admin:
        lows, ends = topic_ranges(admin, frozen)
        topics = {name: id for name, (id, _) in topic_partitions(admin, frozen.topics.values()).items()}
        first, last = (_offsets(admin, place, lows, ends) for place in (begin, end))
    ranges, problems = cut(first, last, _by_key(lows), _by_key(ends))
    at = time.time()
    replay = Replay(
        new_id(at),
        pipeline,
        frozen.hash,
        _nested(ranges, "first"),
        _nested(ranges, "last"),
        topics,
        f"{begin.told} to {end.told}",
        by,
        at,
    )
    helps = [f"headgate replay start {pipeline} --from earliest --dry-run"] if problems else []
    with closing(StateStore(settings.store_url)) as store:
        for found, help in (
            (topics_changed(settings, store, replay), "headgate plan"),
            (_memory(settings, store, frozen), "headgate replay list, and again when none runs"),
        ):
            problems += found
            helps += [help] if found else []
    layout = ReplayLayout(settings.state, pipeline, replay.id)
    full = room_problems(settings, frozen, sum(each.records for each in ranges), layout.folder)
    problems += full
    helps += (
        ["a shorter range, or room on the disk: headgate replay list shows what can be discarded"]
        if full
        else []
    )
    tables = tuple(each.table for each in desired_tables(frozen))
    told, notes = "; ".join(helps), _notes(frozen)
    return ReplayPlan(replay, tuple(ranges), layout.folder, tables, notes, tuple(problems), told)


def topics_changed(settings: Settings, store: StateStore, replay: Replay) -> list[str]:
    """Where an offset means, or has meant to the live tables, another record than to the replay."""
    layout = CheckpointLayout(settings.checkpoints, replay.pipeline)
    begun = [read_lineage(layout, path.parent.name).begun_at for path in _lineages(layout)]
    found = []
    for topic, id in sorted(replay.topics.items()):
        if store.topic_id(topic) != id:
            found.append(f"topic {topic} is not the one that was applied: headgate plan")
        elif begun and store.topic_since(topic) > min(begun):
            found.append(f"topic {topic} was made anew since the first record of the live tables was read")
    return found


def _lineages(layout: CheckpointLayout) -> list[Path]:
    return [path for path in layout.folder.glob("*/lineage.json") if "." not in path.parent.name]


def make_tables(layout: ReplayLayout, frozen: FrozenContract) -> None:
    """Empty tables for the side output; those that are there stay."""
    from headgate.topics.lake import carry_out_table
    from headgate.topics.live import read_table
    from headgate.topics.tables import compare_table

    for table in desired_tables(frozen):
        live = read_table(layout.tables / table.pipeline / table.table)
        for action in compare_table(table, live)[0]:
            carry_out_table(layout.tables, action)


def _contract(settings: Settings, pipeline: str, contract: str) -> FrozenContract:
    contracts = ContractStore(settings.state)
    frozen = contracts.current(pipeline) if contract == "applied" else contracts.get(contract)
    if frozen.pipeline != pipeline:
        raise RefusedError(
            f"the contract {contract[:12]} is of pipeline {frozen.pipeline}, not of {pipeline}",
            expected="a contract of this pipeline that was applied once",
            help="headgate plan",
        )
    return frozen


def _offsets(
    admin: KafkaAdminClient, place: Place, lows: dict[TopicPartition, int], ends: dict[TopicPartition, int]
) -> Found:
    if place.kind == "earliest":
        return _by_key(lows)
    if place.kind == "now":
        return _by_key(ends)
    if place.kind == "timestamp":
        return _by_key(first_at(admin, ends, moment_of(place.value)))
    given = offsets_from(Path(place.value))
    return {(topic, number): offset for topic, each in given.items() for number, offset in each.items()}


def _by_key(offsets: dict[TopicPartition, int]) -> Found:
    return {(key.topic, key.partition): offset for key, offset in offsets.items()}


def _nested(ranges: Sequence[PartitionRange], name: str) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {}
    for each in ranges:
        found.setdefault(each.topic, {})[each.partition] = getattr(each, name)
    return found


def _memory(settings: Settings, store: StateStore, frozen: FrozenContract) -> list[str]:
    """The drivers of all pipelines and of all replays must fit into the machine together."""
    contracts = ContractStore(settings.state)
    running = {each.name for each in operations_in(store, KIND, ACTIVE)}
    beside = [each for each in find_replays(settings.state) if each.id in running]
    drivers = {name: contracts.get(each.hash) for name, each in contracts.applied().items()}
    drivers |= {f"replay {each.id}": contracts.get(each.contract_hash) for each in beside}
    drivers |= {"this replay": frozen}
    needed, memory = sum(map(driver_memory, drivers.values())), machine_memory()
    if needed <= memory:
        return []
    told = ", ".join(f"{name} {driver_memory(each) // _MB:,} MB" for name, each in sorted(drivers.items()))
    return [
        f"the drivers would need {needed // _MB:,} MB together, and this machine has {memory // _MB:,} MB: "
        f"{told}"
    ]


def _notes(frozen: FrozenContract) -> tuple[str, ...]:
    found = ["the live stream runs on: the replay has a checkpoint, tables and claims of its own"]
    served = sorted(name for name, each in frozen.contract.outputs.items() if any(t.redis for t in each.to))
    if served:
        found.append(f"nothing is written to Redis, where {', '.join(served)} would go")
    if frozen.stateful_outputs:
        found.append(
            "at its end it reads, once, the records outside the range that the live stream has read: which "
            "windows are whole can be known in no other way"
        )
    return tuple(found)
