"""Makes the class-data-sharing archive: `python -m spark.warm`, once per class path and JVM.

A JVM that maps the archive skips loading and verifying some 15,000 classes: the time from start to the first
batch falls by a third. The archive holds what a driver loads, so this runs a small stream through the
same code: decoding, rules, a window, Delta. It needs no broker. A JVM that finds the archive unfit
ignores it.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.contract.model import Contract, Job
from headgate.settings import Settings, load_settings

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

__all__ = ["main", "make_archive", "run_small_streams"]

_CONTRACT = {
    "headgate": 1,
    "pipeline": "warm-up",
    "version": 1,
    "owner": "headgate",
    "sources": {
        "readings": {
            "topic": "none",
            "columns": [
                {"name": "at", "type": "timestamp"},
                {"name": "value", "type": "double"},
                {"name": "name", "type": "string"},
            ],
            "event_time": {"column": "at"},
            "rules": [{"name": "positive", "expect": "value >= 0 AND length(name) < 10"}],
        }
    },
    "outputs": {
        "per_second": {
            "sql": "SELECT window.start AS second, name, avg(value) AS average, count(*) AS readings "
            "FROM readings GROUP BY window(at, '1 second'), name",
            "mode": "update",
            "key": ["second", "name"],
            "to": [{"delta": "per_second"}],
        }
    },
}


def main() -> int:
    settings, _ = load_settings()
    archive = make_archive(settings)
    sys.stdout.write(f"{archive}\n")
    return 0


def make_archive(settings: Settings) -> Path:
    """Make the archive unless it is there; its path. Takes some 30 seconds."""
    from spark.session import build_session, class_archive

    archive = class_archive(settings, sorted(settings.jars_dir.glob("*.jar")))
    if archive.is_file():
        return archive
    for old in settings.jars_dir.glob("classes-*.jsa"):
        old.unlink()  # of other jars, or of another JVM: a hundred megabytes that nothing maps
    work = settings.state / "spark" / "warm-up"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    draft = archive.with_suffix(".draft")
    os.environ["HEADGATE_DRIVER_ARCHIVE_TO"] = str(draft)
    spark = build_session(settings, Job(cores=2), "headgate warm-up", brief=True)
    jvm = spark.sparkContext._gateway.proc
    run_small_streams(spark, work)
    spark.stop()
    spark.sparkContext._gateway.shutdown()
    jvm.stdin.close()  # the JVM ends with its standard input, and writes the archive as it ends
    jvm.wait(timeout=300)
    if draft.is_file():
        draft.replace(archive)
    shutil.rmtree(work, ignore_errors=True)
    return archive


def run_small_streams(spark: SparkSession, work: Path) -> None:
    """Two batches of the record path in either lane and of a window, and what reads Kafka; `work` is an
    empty folder for tables and checkpoints."""
    from spark.screen import screen
    from spark.stateful import output_frame, with_watermark

    contract = Contract.model_validate(_CONTRACT)
    raw = _source(spark)
    good = with_watermark(screen(raw, contract, "readings").good(), contract.sources["readings"])
    windows = output_frame(spark, contract, "per_second", {"readings": good})
    records = raw.writeStream.foreachBatch(partial(_records, contract, work / "table"))
    updates = windows.writeStream.foreachBatch(lambda batch, _: batch.toArrow()).outputMode("update")
    arrow = raw.mapInArrow(_passed_on, raw.schema).writeStream.foreachBatch(lambda batch, _: batch.toArrow())
    # With a trigger, so that the others leave the processors to the one that takes longest.
    queries = [
        writer.option("checkpointLocation", str(work / name)).trigger(processingTime="2 seconds").start()
        for name, writer in (("a", records), ("b", updates), ("c", arrow))
    ]
    _until_two_batches(queries)
    for query in queries:
        query.stop()
    _touch_kafka(spark)


def _passed_on(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What stands in for the tasks of the Arrow lane."""
    yield from batches


def _source(spark: SparkSession) -> DataFrame:
    """Records as Kafka hands them over, from Spark's own generator."""
    from pyspark.sql import functions as F

    from spark.decode import raw_columns

    fields = (F.col("timestamp").cast("string").alias("at"), F.col("value"), F.lit("a").alias("name"))
    columns = {
        "key": F.lit(None).cast("binary"),
        "value": F.to_json(F.struct(*fields)).cast("binary"),
        "topic": F.lit("none"),
        "partition": F.lit(0),
        "offset": F.col("value"),
        "timestamp": F.col("timestamp"),
    }
    made = spark.readStream.format("rate").name("readings").load()
    return raw_columns(made.select(*(column.alias(name) for name, column in columns.items())))


def _records(contract: Contract, table: Path, batch: DataFrame, batch_id: int) -> None:
    """What the record query does with a batch."""
    from pyspark.sql import functions as F

    from spark.screen import screen

    screened = screen(batch, contract, "readings")
    screened.frame.agg(F.count(F.lit(1)), F.count_if(screened.bad)).collect()
    writer = screened.good().select("at", "value", "name").write.format("delta").mode("append")
    writer.option("txnAppId", "warm-up").option("txnVersion", str(batch_id)).save(str(table))


def _until_two_batches(queries: Sequence[StreamingQuery]) -> None:
    deadline = time.monotonic() + 300
    while any((query.lastProgress or {"batchId": -1})["batchId"] < 1 for query in queries):
        if time.monotonic() > deadline or not all(query.isActive for query in queries):
            raise RuntimeError(f"the warm-up stream did not run: {[q.exception() for q in queries]}")
        time.sleep(0.1)


def _touch_kafka(spark: SparkSession) -> None:
    """Load the classes of the Kafka source and its clients, without a broker."""
    reader = spark.readStream.format("kafka").name("kafka").option("subscribe", "none")
    reader.option("kafka.bootstrap.servers", "127.0.0.1:1").load()
    jvm = spark._jvm
    properties = jvm.java.util.Properties()
    properties.setProperty("bootstrap.servers", "127.0.0.1:1")
    for role in ("key", "value"):
        properties.setProperty(
            f"{role}.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer"
        )
    jvm.org.apache.kafka.clients.consumer.KafkaConsumer(properties).close()
    jvm.org.apache.kafka.clients.admin.Admin.create(properties).close()


if __name__ == "__main__":
    sys.exit(main())
