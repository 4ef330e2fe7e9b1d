"""What the two PyFlink jobs share, as one who knows Flink sets them up; runs in PyFlink's own environment.

No rules, no quarantine, no metrics, like the hand-written Spark jobs. A value that is no JSON is dropped.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyflink.table import TableEnvironment

__all__ = ["arguments", "environment", "settings", "sink", "source"]

_COLUMNS = "seq BIGINT, device STRING, ts TIMESTAMP(3), `value` DOUBLE, status INT"
_WATERMARK = "WATERMARK FOR ts AS ts - INTERVAL '30' SECOND"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("brokers", "topic", "group", "table", "checkpoint", "jars"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--interval", type=int, required=True, help="milliseconds between checkpoints")
    return parser.parse_args()


def settings(options: argparse.Namespace) -> dict[str, str]:
    """Two slots in one JVM, as the others have two cores, and exactly-once checkpoints. A job that fails
    ends: a rate over a restart would mean nothing."""
    return {
        "execution.target": "local",
        "parallelism.default": "2",
        "pipeline.object-reuse": "true",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.interval": f"{options.interval} ms",
        "execution.checkpointing.dir": f"file://{options.checkpoint}",
        "state.backend.type": "hashmap",
        "restart-strategy.type": "none",
        "table.local-time-zone": "UTC",
        "rest.bind-address": "127.0.0.1",
    }


def environment(options: argparse.Namespace) -> TableEnvironment:
    from pyflink.common import Configuration
    from pyflink.table import EnvironmentSettings, TableEnvironment

    configuration = Configuration()
    for name, value in settings(options).items():
        configuration.set_string(name, value)
    chosen = EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(configuration)
    tables = TableEnvironment.create(chosen.build())
    tables.get_config().set("pipeline.jars", options.jars)  # here PyFlink also loads them for its planner
    return tables


def source(options: argparse.Namespace, *, watermark: bool) -> str:
    """The topic from its beginning to where it ends now."""
    columns = f"{_COLUMNS}, {_WATERMARK}" if watermark else _COLUMNS
    return _table(
        "readings",
        columns,
        {
            "connector": "kafka",
            "topic": options.topic,
            "properties.bootstrap.servers": options.brokers,
            "properties.group.id": options.group,
            "scan.startup.mode": "earliest-offset",
            "scan.bounded.mode": "latest-offset",
            "format": "json",
            "json.ignore-parse-errors": "true",
            "json.timestamp-format.standard": "ISO-8601",
        },
    )


def sink(options: argparse.Namespace, name: str, columns: str) -> str:
    """Parquet files that a checkpoint commits, encoded and compressed like those of a Delta table."""
    return _table(
        name,
        columns,
        {
            "connector": "filesystem",
            "path": f"file://{options.table}",
            "format": "parquet",
            "parquet.compression": "SNAPPY",
            "parquet.utc-timezone": "true",
            "parquet.write.int64.timestamp": "true",
            "parquet.timestamp.time.unit": "micros",
        },
    )


def _table(name: str, columns: str, options: Mapping[str, str]) -> str:
    told = ", ".join(f"'{key}' = '{value}'" for key, value in options.items())
    return f"CREATE TEMPORARY TABLE {name} ({columns}) WITH ({told})"
