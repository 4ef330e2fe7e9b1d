"""The windows job as one writes it without headgate: Kafka → from_json → ten-second windows → Delta."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from bench.plain import arguments, read_records, session

if TYPE_CHECKING:
    from argparse import Namespace

    from pyspark.sql import SparkSession

__all__ = ["run"]


def run(spark: SparkSession, options: Namespace) -> None:
    windows = (
        read_records(spark, options)
        .withWatermark("ts", "30 seconds")
        .groupBy(F.window("ts", "10 seconds"), "device")
        .agg(
            F.count("*").alias("readings"),
            F.avg("value").alias("average"),
            F.stddev("value").alias("deviation"),
            F.min("value").alias("lowest"),
            F.max("value").alias("highest"),
        )
        .select(
            F.col("window.start").alias("start"),
            "device",
            "readings",
            "average",
            "deviation",
            "lowest",
            "highest",
        )
    )
    query = (
        windows.writeStream.format("delta")
        .outputMode("append")
        .option("checkpointLocation", options.checkpoint)
        .trigger(availableNow=True)
        .start(options.table)
    )
    query.awaitTermination()


if __name__ == "__main__":
    chosen = arguments()
    run(session(chosen), chosen)
