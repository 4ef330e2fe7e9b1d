"""Why small results are written by `deltalake`: `python -m bench.probe_merge` prints the table of ADR 0001.

Seconds per batch to upsert rows, half of which are there already, into tables of the same history: by
Spark's MERGE, and by a merge of the collected rows in the driver. Appends for comparison.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import DeltaTable

from bench.place import open_place
from headgate.contract.model import Job
from spark.delta import DeltaSink

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["main"]

SIZES = (5, 1_000, 50_000)
BATCHES = 10
WARM_UP = 3
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_SCHEMA = pa.schema(
    [("timestamp", pa.timestamp("us", "UTC")), ("average", pa.float64()), ("readings", pa.int64())]
)
_APP = "spark.databricks.delta.write.txnAppId"
_VERSION = "spark.databricks.delta.write.txnVersion"


def main() -> None:
    from spark.session import build_session

    place = open_place()
    settings = place.settings()
    folder = place.root / "probe"
    shutil.rmtree(folder, ignore_errors=True)
    spark = build_session(settings, Job(cores=2), "probe of merges")
    print("| rows in the batch | MERGE by Spark | merge by deltalake |\n|---|---|---|")
    for size in SIZES:
        by_spark = _times(_spark_merge(spark, folder / f"spark-{size}"), size, overlap=True)
        ours = _times(_merge(folder / f"deltalake-{size}"), size, overlap=True)
        print(f"| {size:,} | {by_spark} | {ours} |")
    by_spark = _times(_spark_append(spark, folder / "spark-append"), 1_000, overlap=False)
    ours = _times(_append(folder / "deltalake-append"), 1_000, overlap=False)
    print(f"| append of 1,000 | {by_spark} | {ours} |")
    spark.stop()
    shutil.rmtree(folder)


def _rows(count: int, offset: int) -> pa.Table:
    moments = [_BEGIN + timedelta(seconds=offset + i) for i in range(count)]
    return pa.table({"timestamp": moments, "average": [1.0] * count, "readings": [1] * count}, schema=_SCHEMA)


def _times(write: Callable[[pa.Table, int], None], size: int, *, overlap: bool) -> str:
    """Least and median of the batches after the warm-up, in seconds."""
    found = []
    for batch in range(BATCHES):
        rows = _rows(size, batch * (size // 2 if overlap else size))
        begun = time.perf_counter()
        write(rows, batch)
        found.append(time.perf_counter() - begun)
    kept = found[WARM_UP:]
    return f"{min(kept):.3f}–{max(kept):.3f}, median {statistics.median(kept):.3f}"


def _table(path: Path) -> Path:
    DeltaTable.create(str(path), schema=_SCHEMA)
    return path


def _merge(path: Path) -> Callable[[pa.Table, int], None]:
    sink = DeltaSink(_table(path), "probe")

    def write(rows: pa.Table, batch: int) -> None:
        assert not sink.has(batch)
        sink.merge_rows(rows, ["timestamp"], batch, "timestamp")

    return write


def _append(path: Path) -> Callable[[pa.Table, int], None]:
    sink = DeltaSink(_table(path), "probe")

    def write(rows: pa.Table, batch: int) -> None:
        assert not sink.has(batch)
        sink.append_rows(rows, batch)

    return write


def _spark_merge(spark: SparkSession, path: Path) -> Callable[[pa.Table, int], None]:
    from delta.tables import DeltaTable as SparkTable

    _table(path)

    def write(rows: pa.Table, batch: int) -> None:
        spark.conf.set(_APP, "probe")
        spark.conf.set(_VERSION, str(batch))
        target = SparkTable.forPath(spark, str(path)).alias("t")
        merge = target.merge(spark.createDataFrame(rows).alias("s"), "t.timestamp <=> s.timestamp")
        merge.whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
        spark.conf.unset(_APP)
        spark.conf.unset(_VERSION)

    return write


def _spark_append(spark: SparkSession, path: Path) -> Callable[[pa.Table, int], None]:
    sink = DeltaSink(_table(path), "probe")

    def write(rows: pa.Table, batch: int) -> None:
        sink.append_frame(spark.createDataFrame(rows), batch)

    return write


if __name__ == "__main__":
    main()
