"""Checkpoints as Spark lays them out, and tables as the sinks leave them, without Spark."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

__all__ = [
    "batch",
    "begin_query",
    "commit",
    "committed_batch",
    "rows_in",
    "state_file",
    "summed",
    "uncommit",
    "write_batch",
]

SCHEMA = pa.schema([pa.field("batch", pa.int64())])


def summed(path: Path, data: bytes) -> None:
    """A file and its checksum, as Hadoop's local file system writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    sums = [zlib.crc32(data[at : at + 512]) for at in range(0, len(data), 512)]
    path.with_name(f".{path.name}.crc").write_bytes(b"crc\0" + struct.pack(f">i{len(sums)}I", 512, *sums))


def state_file(path: Path, content: bytes = b"rows") -> None:
    """A file of the default state store: a block of LZ4, not compressed, and the empty one that ends it."""
    head, size = b"LZ4Block\x15", struct.pack("<i", len(content))
    summed(path, head + size + size + b"sums" + content + head + bytes(12))


def begin_query(query: Path, topic: str = "t", *, partitions: int = 1) -> None:
    for name in ("offsets", "commits"):
        (query / name).mkdir(parents=True, exist_ok=True)
    summed(query / "metadata", b'{"id":"q"}')
    summed(query / "sources" / "orders" / "0", f'\0v1\n{{"{topic}":{{"0":0}}}}'.encode())
    store = {"storeName": "default", "numColsPrefixKey": 0, "numPartitions": partitions}
    text = json.dumps({"operatorInfo": {"operatorId": 0}, "stateStoreInfo": [store]})
    summed(query / "state" / "0" / "_metadata" / "metadata", f"v1\n{text}".encode())


def batch(query: Path, number: int, end: int, topic: str = "t", *, at_ms: int = 1) -> None:
    """The offset entry of a batch, which is what Spark writes before it runs."""
    head = json.dumps({"batchWatermarkMs": 0, "batchTimestampMs": at_ms, "conf": {}})
    (query / "offsets" / str(number)).write_text(f'v1\n{head}\n{{"{topic}":{{"0":{end}}}}}')


def commit(query: Path, number: int) -> None:
    state_file(query / "state" / "0" / "0" / f"{number + 1}.delta", b"state %d" % (number + 1))
    (query / "commits" / str(number)).write_text('v1\n{"nextBatchWatermarkMs":0}')


def committed_batch(
    query: Path,
    number: int,
    topic: str,
    offsets: Mapping[int, int],
    *,
    conf: Mapping[str, str],
    stateful: bool,
) -> None:
    """All that Spark leaves of one committed batch; with `stateful` two partitions of a store, which a
    checkpoint that begins later than with its first batch holds as a snapshot."""
    if not (query / "metadata").exists():
        begin_query(query, topic, partitions=2)
    head = json.dumps({"batchWatermarkMs": 0, "batchTimestampMs": 1, "conf": dict(conf)})
    source = json.dumps({topic: {str(partition): offset for partition, offset in offsets.items()}})
    summed(query / "offsets" / str(number), f"v1\n{head}\n{source}".encode())
    summed(query / "commits" / str(number), b'v1\n{"nextBatchWatermarkMs": 0}')
    for partition in (0, 1) if stateful else ():
        store = query / "state" / "0" / str(partition)
        whole = number == 0 or (store / f"{number}.delta").exists()
        state_file(store / f"{number + 1}.{'delta' if whole else 'snapshot'}")


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
