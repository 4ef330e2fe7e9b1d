"""Where each query of a lineage with an origin begins. The broker says how many partitions there are now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.origin import starts_of
from headgate.topics.kafka import admin_client
from headgate.topics.live import topic_partitions

if TYPE_CHECKING:
    from headgate.checkpoints.lineage import Lineage
    from headgate.contract.frozen import FrozenContract
    from headgate.settings import Settings
    from spark.source import Starts

__all__ = ["query_starts"]


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
