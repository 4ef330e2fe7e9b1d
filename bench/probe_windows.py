"""Why windows are fed in Arrow, not grouped there: `python -m bench.probe_windows` prints ADR 0033's table.

Processor time for each record, of the JVM and of the Python workers, to compute the windows of the benchmark
in several ways over the same records, without a broker and without a sink.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from ruamel.yaml import YAML

from bench.dataset import PARTITIONS, Dataset
from bench.place import open_place
from bench.plain import SCHEMA
from headgate.arrow.passed import passed_plan
from headgate.arrow.screen import RAW, Screen
from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract, Job

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["main"]

RECORDS, ROUNDS = 2_000_000, 4
_WINDOWS = "SELECT window.start AS start, device, {} FROM v GROUP BY window(ts, '10 seconds'), device"
_GROUPED = "ts timestamp, device string, total double, readings bigint, low double, high double"
_MERGED = (
    "sum(if(place = 0, readings, 0)) AS readings, stddev(x) AS deviation, min(low) AS low, "
    "max(high) AS high, sum(if(place = 0, total, 0)) / sum(if(place = 0, readings, 0)) AS average"
)
Batches = Iterator[pa.RecordBatch]


def main() -> None:
    from spark.session import build_session

    place = open_place()
    folder = place.root / "probe"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write(folder / "records.parquet")
    spark = build_session(place.settings(), Job(cores=2, memory="2g"), "probe of windows")
    ways = _ways(spark, folder / "records.parquet")
    for _ in range(ROUNDS - 1):
        for run in ways.values():
            run()
    print("| way | JVM, µs a record | Python |\n|---|---:|---:|")
    for name, run in ways.items():
        jvm, python = _processor_seconds()
        run()
        after = _processor_seconds()
        print(
            f"| {name} | {(after[0] - jvm) / RECORDS * 1e6:.2f} | {(after[1] - python) / RECORDS * 1e6:.2f} |"
        )
    spark.stop()
    shutil.rmtree(folder)


def _ways(spark: SparkSession, file: Path) -> Mapping[str, Callable[[], None]]:
    from pyspark.sql import functions as F

    from spark.decode import raw_columns
    from spark.passed import good_in_arrow
    from spark.screen import screen
    from spark.stateful import output_frame

    frozen = _frozen()
    contract = frozen.contract

    def windows(good: DataFrame) -> None:
        _drain(output_frame(spark, contract, "windows", {"readings": good}))

    def raw() -> DataFrame:
        return raw_columns(spark.read.parquet(str(file)))

    def by_hand() -> None:
        parsed = raw().select(F.from_json(F.col("_value").cast("string"), SCHEMA).alias("r")).select("r.*")
        windows(parsed)

    def grouped() -> None:
        frame = raw().select(*RAW.names).mapInArrow(_group(frozen), f"{_GROUPED}, xs array<double>")
        frame.selectExpr("*", "posexplode(xs) AS (place, x)").createOrReplaceTempView("v")
        _drain(spark.sql(_WINDOWS.format(_MERGED)))

    return {
        "records read, nothing else": lambda: _drain(raw()),
        "by hand, `from_json`": by_hand,
        "JVM lane": lambda: windows(screen(raw(), contract, "readings").good()),
        "Arrow lane": lambda: windows(good_in_arrow(raw(), frozen, "windows", "readings")),
        "grouped in the task, values along for `stddev`": grouped,
        "screening alone": lambda: _drain(raw().select(*RAW.names).mapInArrow(_judge(frozen), "good bigint")),
    }


def _group(frozen: FrozenContract) -> Callable[[Batches], Batches]:
    """Partial results of each window and device, and its values, of which a deviation cannot be put together
    from sums without losing digits."""

    def run(batches: Batches) -> Batches:
        plan = passed_plan(frozen, "windows", "readings").records
        judge = Screen(plan, "t")
        for batch in batches:
            good = judge.judge(pa.Table.from_batches([batch]).cast(RAW)).good["windows"]
            start = good["ts"].cast(pa.int64()).to_numpy() // 10_000_000
            keyed = good.append_column("start", pa.array(start))
            how = [("ts", "max"), *(("value", name) for name in ("sum", "count", "min", "max", "list"))]
            found = keyed.group_by(["start", "device"], use_threads=False).aggregate(how)
            names = (
                "ts_max",
                "device",
                *(f"value_{name}" for name in ("sum", "count", "min", "max", "list")),
            )
            yield from found.select(names).to_batches()

    return run


def _judge(frozen: FrozenContract) -> Callable[[Batches], Batches]:
    def run(batches: Batches) -> Batches:
        judge = Screen(passed_plan(frozen, "windows", "readings").records, "t")
        judged = [judge.judge(pa.Table.from_batches([batch]).cast(RAW)) for batch in batches]
        yield pa.record_batch({"good": [sum(each.good["windows"].num_rows for each in judged)]})

    return run


def _frozen() -> FrozenContract:
    text = (Path(__file__).parent / "pipelines" / "bench-windows.yaml").read_text(encoding="utf-8")
    contract = Contract.model_validate(YAML(typ="safe").load(text))
    outputs = {"windows": ResolvedOutput(True, {"type": "struct", "fields": []})}
    return freeze(
        contract, topics={"readings": "t"}, replication=1, outputs=outputs, env="local", headgate_version="0"
    )


def _write(file: Path) -> None:
    """The records of the benchmark as Kafka's source hands them over."""
    dataset = Dataset(RECORDS)
    tables = []
    for partition in range(PARTITIONS):
        keys, values = dataset.values(partition, 0, dataset.per_partition)
        count = len(values)
        tables.append(
            pa.table(
                {
                    "key": pa.array(map(bytes, keys), pa.binary()),
                    "value": pa.array(map(bytes, values), pa.binary()),
                    "topic": pa.repeat(pa.scalar("t"), count),
                    "partition": pa.repeat(pa.scalar(partition, pa.int32()), count),
                    "offset": pa.array(np.arange(count)),
                    "timestamp": pa.repeat(
                        pa.scalar(1_800_000_000_000_000, RAW.field("_arrival").type), count
                    ),
                }
            )
        )
    pq.write_table(pa.concat_tables(tables), file, row_group_size=RECORDS // 8, use_dictionary=False)


def _drain(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()


def _processor_seconds() -> tuple[float, float]:
    """Of the JVM, and of the workers, also those that have ended."""
    jvm = python = 0.0
    for process in psutil.Process().children(recursive=True):
        times = process.cpu_times()
        if "java" in process.name():
            jvm += times.user + times.system
        else:
            python += times.user + times.system + times.children_user + times.children_system
    return jvm, python


if __name__ == "__main__":
    main()
