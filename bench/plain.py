"""What the hand-written jobs share: the session and the source, as a good engineer sets them up.

The settings that pay on a small machine are made (few shuffle and snapshot partitions), and none of
headgate's own.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["SCHEMA", "arguments", "read_topic", "session"]

SCHEMA = "seq BIGINT, device STRING, ts TIMESTAMP, value DOUBLE, status INT"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("brokers", "topic", "table", "checkpoint", "jars", "scratch"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--memory", required=True)
    return parser.parse_args()


def session(options: argparse.Namespace) -> SparkSession:
    from pyspark.sql import SparkSession

    jars = [str(path) for path in sorted(Path(options.jars).glob("*.jar"))]
    spark = (
        SparkSession.builder.appName("plain")
        .master("local[2]")
        .config("spark.jars", ",".join(jars))
        .config("spark.driver.extraClassPath", ":".join(jars))
        .config("spark.driver.memory", options.memory)
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.local.dir", options.scratch)
        .config("spark.sql.warehouse.dir", f"{options.scratch}/warehouse")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.databricks.delta.snapshotPartitions", "2")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("WARN")
    return spark


def read_topic(spark: SparkSession, options: argparse.Namespace) -> DataFrame:
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", options.brokers)
        .option("subscribe", options.topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", str(options.batch))
        .load()
    )
