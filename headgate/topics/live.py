"""Reads what is there: topics at the broker, tables from their logs, contracts and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import for_code

from headgate.checkpoints.layout import CheckpointLayout, table_path
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.errors import HeadgateError, ServiceError
from headgate.settings import Settings
from headgate.streams.store import StateStore
from headgate.tables.delta import open_table
from headgate.tables.files import is_there
from headgate.tables.place import Place
from headgate.topics.state import Live
from headgate.topics.tables import LiveTable, desired_tables
from headgate.topics.topics import LiveConfig, LiveTopic

__all__ = ["committed_queries", "read_live", "read_table", "read_topics", "topic_partitions"]

_UNKNOWN_TOPIC = 3  # Kafka's UNKNOWN_TOPIC_OR_PARTITION


def read_live(settings: Settings, admin: KafkaAdminClient, contracts: Sequence[FrozenContract]) -> Live:
    """What is there of everything that these contracts name. Raises StoreUnavailable, ServiceError."""
    contract_store = ContractStore(settings.state)
    applied = {name: contract_store.get(each.hash) for name, each in contract_store.applied().items()}
    topics = sorted({topic for each in contracts for topic in each.topics.values()})
    with closing(StateStore(settings.store_url)) as store:
        ids = {topic: store.topic_id(topic) for topic in topics}
        owners = {topic: store.topic_owner(topic) for topic in topics}
    pipelines = {*applied, *(each.pipeline for each in contracts)}
    tables = {
        table.address: read_table(table_path(settings.tables, table.pipeline, table.table))
        for contract in contracts
        for table in desired_tables(contract)
    }
    return Live(
        cluster_id=str(admin.describe_cluster()["cluster_id"]),
        topics=read_topics(admin, topics),
        tables={address: live for address, live in tables.items() if live is not None},
        remembered={topic: value for topic, value in ids.items() if value is not None},
        owners={topic: value for topic, value in owners.items() if value is not None},
        applied=applied,
        committed={name: committed_queries(settings.checkpoints, name) for name in pipelines},
    )


def read_topics(admin: KafkaAdminClient, names: Iterable[str]) -> dict[str, LiveTopic]:
    """The topics that exist, with all their configs. Never creates one."""
    wanted = sorted(set(names))
    # An empty list would ask for nothing, None for everything.
    described = [each for each in admin.describe_topics(wanted) if _exists(each)] if wanted else []
    # Without the filter kafka-python leaves out everything that has its default value.
    resources = [ConfigResource(ConfigResourceType.TOPIC, each["name"]) for each in described]
    configs = admin.describe_configs(resources, config_filter="all")["topic"] if resources else {}
    return {each["name"]: _topic(each, configs[each["name"]]) for each in described}


def topic_partitions(admin: KafkaAdminClient, names: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Id and number of partitions of the topics that exist."""
    wanted = sorted(set(names))
    described = [each for each in admin.describe_topics(wanted) if _exists(each)] if wanted else []
    return {each["name"]: (str(each["topic_id"]), len(each["partitions"])) for each in described}


def _exists(described: Mapping[str, Any]) -> bool:
    code = described["error_code"]
    if code not in (0, _UNKNOWN_TOPIC):
        raise ServiceError(
            f"Kafka cannot describe the topic {described['name']}: {for_code(code).__name__}",
            help="headgate doctor",
        )
    return bool(code == 0)


def _topic(described: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]) -> LiveTopic:
    partitions = described["partitions"]
    return LiveTopic(
        topic_id=str(described["topic_id"]),
        partitions=len(partitions),
        # A partition that is being moved has more replicas for a while: the smallest is what is kept.
        replication=min(len(each["replica_nodes"]) for each in partitions),
        configs={
            key: LiveConfig(str(value["value"]), value["config_source"] == "DYNAMIC_TOPIC_CONFIG")
            for key, value in configs.items()
        },
    )


def read_table(path: Place) -> LiveTable | None:
    """A Delta table, None where there is none, or one with a `problem` where it cannot be read.

    Raises TablesUnavailable where a store does not answer, StoreDenied where it does not let us, and
    SettingsError where there is no way to it: nothing of the table is wrong then.
    """
    try:
        table = open_table(path)
        metadata, protocol = table.metadata(), table.protocol()
        return LiveTable(
            table_id=str(metadata.id),
            schema=_json(table),
            partition_by=tuple(metadata.partition_columns),
            properties=dict(metadata.configuration),
            reader_version=protocol.min_reader_version,
        )
    except TableNotFoundError:
        if is_there(path):
            return LiveTable(problem=f"{path} holds files and is no Delta table")
        return None
    except HeadgateError:
        raise
    except (DeltaError, OSError, ValueError) as error:
        return LiveTable(problem=f"{path} cannot be read: {str(error).splitlines()[0]}")


def _json(table: DeltaTable) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(table.schema().to_json())
    return schema


def committed_queries(checkpoints: Path, pipeline: str) -> frozenset[str]:
    """The queries of the running lineage that have committed a batch; none before the first start."""
    layout = CheckpointLayout(checkpoints, pipeline)
    lineage = layout.current_lineage()
    if lineage is None:
        return frozenset()
    commits = layout.lineage(lineage).glob("queries/*/commits/*")
    return frozenset(path.parent.parent.name for path in commits if path.name.isdigit())
