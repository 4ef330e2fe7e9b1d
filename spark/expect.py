"""What a pipeline should have written: its contract computed once, in batch, over all that its topics hold.

    python -m spark.expect --contract HASH --to FOLDER

    FOLDER/topics/<source>.parquet     partition, offset, value: every record that there is
    FOLDER/bad.parquet                 topic, partition, offset, value: what belongs in the quarantine
    FOLDER/outputs/<output>.parquet    the rows of the output

Decoding, rules and outputs are the driver's own; what differs is that nothing is interrupted, nothing is
late, and no state is carried from batch to batch.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.formats.desk import open_desk
from headgate.settings import Settings, load_settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from headgate.formats.decoder import Writers

__all__ = ["expect", "main"]

PATIENCE_SECONDS = 300.0


def main() -> int:
    from spark.session import build_session

    parser = argparse.ArgumentParser(prog="python -m spark.expect")
    parser.add_argument("--contract", required=True)
    parser.add_argument("--to", required=True, type=Path)
    arguments = parser.parse_args()
    settings, _ = load_settings()
    frozen = ContractStore(settings.state).get(arguments.contract)
    spark = build_session(settings, frozen.contract.job, f"headgate expectation {frozen.pipeline}")
    desk = open_desk(settings, frozen.contract, None, stopping=_patience(), waiting=_tell)
    try:
        expect(spark, settings, frozen, arguments.to, desk.askers if desk is not None else {})
    finally:
        spark.stop()
        if desk is not None:
            desk.close()
    return 0


def _patience() -> Callable[[float], bool]:
    """Waits for a registry that is away, which nobody can stop here, for a time."""
    waited = 0.0  # not what went by: an expectation that takes long has not waited

    def stopping(seconds: float) -> bool:
        nonlocal waited
        time.sleep(seconds)
        waited += seconds
        return waited > PATIENCE_SECONDS

    return stopping


def _tell(missing: str | None) -> None:
    if missing is not None:
        sys.stderr.write(f"waiting: {missing}\n")


def expect(
    spark: SparkSession,
    settings: Settings,
    frozen: FrozenContract,
    folder: Path,
    writers: Mapping[str, Writers],
) -> None:
    """`writers` finds the schemas of records that carry a registry's id, by source."""
    from pyspark.sql import functions as F

    from spark.decode import raw_columns
    from spark.screen import screen
    from spark.stateful import output_frame

    good: dict[str, DataFrame] = {}
    bad: list[DataFrame] = []
    for name in frozen.contract.sources:
        raw = raw_columns(_topic(spark, settings, frozen.topics[name])).persist()
        places = [F.col(f"_{each}").alias(each) for each in ("topic", "partition", "offset", "value")]
        _write(raw.select(*places[1:]), folder / "topics" / f"{name}.parquet")
        screened = screen(raw, frozen.contract, name, writers.get(name))
        good[name] = screened.good()
        bad.append(screened.frame.where(screened.bad).select(*places))
    _write(reduce(lambda left, right: left.unionByName(right), bad), folder / "bad.parquet")
    for output in frozen.contract.outputs:
        frame = output_frame(spark, frozen.contract, output, good)
        _write(frame, folder / "outputs" / f"{output}.parquet")


def _topic(spark: SparkSession, settings: Settings, topic: str) -> DataFrame:
    from headgate.topics.kafka import spark_options

    reader = spark.read.format("kafka").option("subscribe", topic)
    for option, value in spark_options(settings).items():
        reader = reader.option(option, value)
    return reader.option("startingOffsets", "earliest").option("endingOffsets", "latest").load()


def _write(frame: DataFrame, path: Path) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(frame.toArrow(), path)


if __name__ == "__main__":
    sys.exit(main())
