"""Rows of Delta tables are read without Python on Arrow's threads."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from headgate.delta_rows import delta_rows


def test_paths_and_partitions_may_hold_any_character(tmp_path: Path) -> None:
    path = tmp_path / "a b ü"
    shops = ["x y", "q/z", "ü%20", "plain"]
    write_deltalake(path, pa.table({"shop": shops, "count": [1, 2, 3, 4]}), partition_by=["shop"])

    found = delta_rows(DeltaTable(path)).to_table().to_pylist()

    assert {row["shop"]: row["count"] for row in found} == dict(zip(shops, [1, 2, 3, 4], strict=True))
