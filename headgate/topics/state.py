"""What is there, as plans see it, and the part of it that a plan rests on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headgate.contract.frozen import FrozenContract
from headgate.topics.tables import LiveTable, desired_tables
from headgate.topics.topics import LiveTopic, desired_topics

__all__ = ["Live", "seen_by"]


@dataclass(frozen=True, slots=True)
class Live:
    """Everything a plan compares with. Tables are keyed by `pipeline/table`."""

    cluster_id: str
    topics: Mapping[str, LiveTopic]
    tables: Mapping[str, LiveTable]
    remembered: Mapping[str, str]  # topic to the id it had when it was applied
    owners: Mapping[str, str]  # topic to the pipeline that provisions it
    applied: Mapping[str, FrozenContract]
    committed: Mapping[str, frozenset[str]]  # pipeline to its queries that have committed a batch


def seen_by(contracts: Sequence[FrozenContract], live: Live) -> dict[str, Any]:
    """What the plan rests on, as JSON: apply refuses when it is not so any more."""
    topics = sorted({topic for each in contracts for topic in each.topics.values()})
    wanted, _, _ = desired_topics(contracts, live.applied, live.owners)
    keys = {each.name: {*each.configs, *each.before} for each in wanted}
    return {
        "topics": {name: _seen_topic(name, keys.get(name, set()), live) for name in topics},
        "remembered": {name: live.remembered.get(name) for name in topics},
        "tables": {
            table.address: asdict(live.tables[table.address]) if table.address in live.tables else None
            for contract in contracts
            for table in desired_tables(contract)
        },
        "applied": {
            each.pipeline: live.applied[each.pipeline].hash if each.pipeline in live.applied else None
            for each in contracts
        },
    }


def _seen_topic(name: str, keys: set[str], live: Live) -> dict[str, Any] | None:
    have = live.topics.get(name)
    if have is None:
        return None
    return {
        "id": have.topic_id,
        "partitions": have.partitions,
        "replication": have.replication,
        "configs": {key: have.configs[key].value for key in sorted(keys) if key in have.configs},
    }
