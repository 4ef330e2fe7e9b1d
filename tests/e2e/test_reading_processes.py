"""Processes that read a Delta table and end at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

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
