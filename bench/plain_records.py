"""The records job as one writes it without headgate: Kafka → columns → Delta, appended.

No rules, no quarantine, no metrics, no fencing: what the benchmark compares against.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.plain import arguments, read_records, session

if TYPE_CHECKING:
    from argparse import Namespace

    from pyspark.sql import SparkSession

__all__ = ["run"]


def run(spark: SparkSession, options: Namespace) -> None:
    query = (
        read_records(spark, options)
        .writeStream.format("delta")
        .outputMode("append")
        .option("checkpointLocation", options.checkpoint)
        .trigger(availableNow=True)
        .start(options.table)
    )
    query.awaitTermination()


if __name__ == "__main__":
    chosen = arguments()
    run(session(chosen), chosen)
