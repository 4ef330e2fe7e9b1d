"""Checkpoints as Spark lays them out, and tables as the sinks leave them, without Spark."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

__all__ = ["batch", "begin_query", "commit", "rows_in", "uncommit", "write_batch"]

SCHEMA = pa.schema([pa.field("batch", pa.int64())])


def begin_query(query: Path, topic: str = "t") -> None:
    for name in ("offsets", "commits", "sources/orders", "state/0/_metadata", "state/0/0"):
        (query / name).mkdir(parents=True, exist_ok=True)
    (query / "metadata").write_text('{"id":"q"}')
    (query / "sources" / "orders" / "0").write_text(f'\0v1\n{{"{topic}":{{"0":0}}}}')
    (query / "state" / "0" / "_metadata" / "metadata").write_text("v1")


def batch(query: Path, number: int, end: int, topic: str = "t") -> None:
    """The offset entry of a batch, which is what Spark writes before it runs."""
    head = json.dumps({"batchWatermarkMs": 0, "batchTimestampMs": 1, "conf": {}})
    (query / "offsets" / str(number)).write_text(f'v1\n{head}\n{{"{topic}":{{"0":{end}}}}}')


def commit(query: Path, number: int) -> None:
    (query / "state" / "0" / "0" / f"{number + 1}.delta").write_text(f"state {number + 1}")
    (query / "state" / "0" / "0" / f".{number + 1}.delta.crc").write_text("sum")
    (query / "commits" / str(number)).write_text('v1\n{"nextBatchWatermarkMs":0}')


def uncommit(query: Path, number: int) -> None:
    (query / "commits" / str(number)).unlink()


def write_batch(table: Path, name: str, number: int) -> None:
    """One row per batch, under a transaction name, as a sink commits it."""
    if not DeltaTable.is_deltatable(str(table)):
        table.parent.mkdir(parents=True, exist_ok=True)
        DeltaTable.create(str(table), schema=SCHEMA)
    properties = CommitProperties(app_transactions=[Transaction(name, number)])
    rows = pa.table({"batch": pa.array([number], pa.int64())})
    write_deltalake(str(table), rows, mode="append", commit_properties=properties)


def rows_in(table: Path) -> list[int]:
    return sorted(row["batch"] for row in DeltaTable(str(table)).to_pyarrow_table().to_pylist())
