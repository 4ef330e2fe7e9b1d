"""What the hand-written jobs share: the session and the source, as a good engineer sets them up.

The settings that pay on a small machine are made (few shuffle and snapshot partitions), and none of
headgate's own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.forms import FORMS, MORE_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["SCHEMA", "arguments", "read_records", "session"]

SCHEMA = "seq BIGINT, device STRING, ts TIMESTAMP, value DOUBLE, status INT"
_AVRO = Path(__file__).parent / "pipelines" / "reading.avsc"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("brokers", "topic", "table", "checkpoint", "jars", "scratch"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--memory", required=True)
    parser.add_argument("--form", choices=sorted(FORMS), required=True)
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


def read_records(spark: SparkSession, options: argparse.Namespace) -> DataFrame:
    """The topic's records, read as their form is read with what Spark has for it."""
    from pyspark.sql import functions as F
    from pyspark.sql.avro.functions import from_avro

    raw = _read_topic(spark, options)
    if options.form == "protobuf":
        return raw.select("value").mapInArrow(_protobuf_rows, SCHEMA)
    if options.form == "avro":
        record = from_avro(F.col("value"), _AVRO.read_text(encoding="utf-8"))
    else:
        more = MORE_COLUMNS if options.form == "json-wide" else ()
        schema = ", ".join([SCHEMA, *(f"{name} DOUBLE" for name in more)])
        record = F.from_json(F.col("value").cast("string"), schema)
    return raw.select(record.alias("r")).select("r.*")


def _read_topic(spark: SparkSession, options: argparse.Namespace) -> DataFrame:
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", options.brokers)
        .option("subscribe", options.topic)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", str(options.batch))
        .load()
    )


def _protobuf_rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """There is no spark-protobuf for this Spark: the messages are read with Google's library."""
    import pyarrow as pa

    reading = _protobuf_message()
    for batch in batches:
        rows = [reading.FromString(value) for value in batch.column("value").to_pylist()]
        moments = pa.array([row.ts for row in rows], pa.timestamp("ms", "UTC"))
        yield pa.record_batch(
            {
                "seq": pa.array([row.seq for row in rows], pa.int64()),
                "device": pa.array([row.device for row in rows], pa.string()),
                "ts": moments.cast(pa.timestamp("us", "UTC")),
                "value": pa.array([row.value for row in rows], pa.float64()),
                "status": pa.array([row.status for row in rows], pa.int32()),
            }
        )


def _protobuf_message() -> Any:
    """The class that protoc would make of bench/pipelines/reading.proto."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="reading.proto", syntax="proto3")
    message = file.message_type.add(name="Reading")
    fields = {
        "seq": kinds.TYPE_INT64,
        "device": kinds.TYPE_STRING,
        "ts": kinds.TYPE_INT64,
        "value": kinds.TYPE_DOUBLE,
        "status": kinds.TYPE_INT32,
    }
    for number, (name, kind) in enumerate(fields.items(), 1):
        message.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Reading"))
