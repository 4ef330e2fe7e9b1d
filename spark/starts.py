"""Where each query begins: of a lineage with an origin, and of one that goes on. The broker says how many
partitions there are now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from headgate.batches.sample import Reading
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.logs import committed_offsets
from headgate.checkpoints.origin import starts_of
from headgate.topics.kafka import admin_client
from headgate.topics.live import topic_partitions

if TYPE_CHECKING:
    from headgate.checkpoints.lineage import Lineage
    from headgate.contract.frozen import FrozenContract
    from headgate.settings import Settings
    from spark.source import Starts

__all__ = ["query_starts", "readings"]


def query_starts(settings: Settings, frozen: FrozenContract, lineage: Lineage) -> Mapping[str, Starts]:
    """Query to topic to partition to offset; empty where the contract's own start holds.

    Raises KafkaUnavailable: Spark refuses offsets that do not name every partition.
    """
    if not (lineage.origin or {}).get("offsets"):
        return {}
    with admin_client(settings) as admin:
        partitions = {
            topic: count for topic, (_, count) in topic_partitions(admin, frozen.topics.values()).items()
        }
    queries = (RECORDS, *frozen.stateful_outputs)
    return {query: starts_of(lineage, query, partitions) for query in queries}


def readings(
    frozen: FrozenContract, layout: CheckpointLayout, lineage: Lineage, starts: Mapping[str, Starts]
) -> dict[str, Reading]:
    """Topic to where the query that is furthest behind goes on: after its newest commit, or at its start."""
    queries = (RECORDS, *frozen.stateful_outputs)
    commits = {query: committed_offsets(layout.query(lineage.id, query)) for query in queries}
    found = {}
    for name, topic in frozen.topics.items():
        begins: list[Mapping[int, int]] = []
        for query, commit in commits.items():
            if commit is not None and topic in commit.offsets:
                begins.append(commit.offsets[topic])
            elif topic in starts.get(query, {}):
                begins.append(starts[query][topic])
            elif frozen.contract.sources[name].start == "earliest":
                begins.append({})
        found[topic] = Reading(begin=_least(begins) if begins else None)
    return found


def _least(begins: list[Mapping[int, int]]) -> dict[int, int]:
    """A partition that one of them does not name is read from its first record, so none is named for it."""
    named = set(begins[0]).intersection(*begins[1:])
    return {number: min(begin[number] for begin in begins) for number in sorted(named)}
