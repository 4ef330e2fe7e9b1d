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
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.contract.model import Contract, Job
from headgate.settings import Settings, load_settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["main", "make_archive"]

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
    spark = build_session(settings, Job(cores=2), "headgate warm-up")
    jvm = spark.sparkContext._gateway.proc
    _run(spark, work)
    _touch_kafka(spark)
    spark.stop()
    spark.sparkContext._gateway.shutdown()
    jvm.stdin.close()  # the JVM ends with its standard input, and writes the archive as it ends
    jvm.wait(timeout=300)
    if draft.is_file():
        draft.replace(archive)
    shutil.rmtree(work, ignore_errors=True)
    return archive


def _run(spark: SparkSession, work: Path) -> None:
    """Two batches of the record path and of a window."""
    from pyspark.sql import functions as F

    from spark.decode import raw_columns
    from spark.screen import screen
    from spark.stateful import output_frame, with_watermark

    contract = Contract.model_validate(_CONTRACT)
    source = contract.sources["readings"]
    value = F.to_json(
        F.struct(
            F.col("timestamp").cast("string").alias("at"),
            F.col("value").alias("value"),
            F.lit("a").alias("name"),
        )
    )
    raw = raw_columns(
        spark.readStream.format("rate")
        .name("readings")
        .load()
        .select(
            F.lit(None).cast("binary").alias("key"),
            value.cast("binary").alias("value"),
            F.lit("none").alias("topic"),
            F.lit(0).alias("partition"),
            F.col("value").alias("offset"),
            F.col("timestamp"),
        )
    )

    def records(batch: DataFrame, batch_id: int) -> None:
        screened = screen(batch, contract, "readings")
        screened.frame.agg(F.count(F.lit(1)), F.count_if(screened.bad)).collect()
        good = screened.good().select("at", "value", "name")
        writer = good.write.format("delta").mode("append")
        writer.option("txnAppId", "warm-up").option("txnVersion", str(batch_id)).save(str(work / "table"))

    windows = output_frame(
        spark,
        contract,
        "per_second",
        {"readings": with_watermark(screen(raw, contract, "readings").good(), source)},
    )
    queries = [
        raw.writeStream.foreachBatch(records).option("checkpointLocation", str(work / "a")).start(),
        windows.writeStream.foreachBatch(lambda batch, _: batch.toArrow())
        .outputMode("update")
        .option("checkpointLocation", str(work / "b"))
        .start(),
    ]
    deadline = time.monotonic() + 120
    while any((query.lastProgress or {"batchId": 0})["batchId"] < 2 for query in queries):
        if time.monotonic() > deadline or not all(query.isActive for query in queries):
            raise RuntimeError(f"the warm-up stream did not run: {[q.exception() for q in queries]}")
        time.sleep(0.2)
    for query in queries:
        query.stop()


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
