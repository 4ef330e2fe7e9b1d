"""Rows of Delta tables are read without Python on Arrow's threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from headgate.delta_rows import delta_rows

READ_AND_END = """
import sys
import pyarrow.compute as pc
from deltalake import DeltaTable
from headgate.delta_rows import delta_rows

rows = delta_rows(DeltaTable(sys.argv[1]))
rows.count_rows(filter=pc.field("number") > 5)
print(rows.to_table(filter=pc.field("number") > 5).num_rows)
"""


def test_a_process_that_ends_right_after_reading_ends_in_order(tmp_path: Path) -> None:
    """With deltalake's own dataset four of five such processes were aborted at their end."""
    table = str(tmp_path / "many files")
    for _ in range(12):
        numbers = pa.table({"number": list(range(3000)), "text": ["x" * 50] * 3000})
        write_deltalake(table, numbers, mode="append")

    for _ in range(5):
        command = [sys.executable, "-c", READ_AND_END, table]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{12 * 2994}\n", "")


def test_paths_and_partitions_may_hold_any_character(tmp_path: Path) -> None:
    path = tmp_path / "a b ü"
    shops = ["x y", "q/z", "ü%20", "plain"]
    write_deltalake(path, pa.table({"shop": shops, "count": [1, 2, 3, 4]}), partition_by=["shop"])

    found = delta_rows(DeltaTable(path)).to_table().to_pylist()

    assert {row["shop"]: row["count"] for row in found} == dict(zip(shops, [1, 2, 3, 4], strict=True))
