"""The gate before any number: what a job wrote is exactly what it was given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from bench.dataset import DEVICES, WINDOW_MS, Expected
from bench.forms import BASE_MS

__all__ = [
    "NotExactError",
    "check_plain_records",
    "check_quarantine",
    "check_records",
    "check_windows",
    "read_delta",
    "read_parquet",
]

Reader = Callable[[Path, list[str]], Any]


class NotExactError(Exception):
    """A job lost, doubled or changed records: its rate means nothing."""


def read_delta(table: Path, columns: list[str]) -> Any:
    return DeltaTable(str(table)).to_pyarrow_table(columns=columns)


def read_parquet(table: Path, columns: list[str]) -> Any:
    """The files of a folder; what begins with a dot is not committed."""
    return ds.dataset(table, format="parquet").to_table(columns=columns)


def check_records(table: Path, expected: Expected, read: Reader = read_delta) -> None:
    """Every good record once: their number and the sum of their numbers."""
    rows = read(table, ["seq"])
    _same(f"rows in {table.name}", rows.num_rows, expected.good)
    _same(f"sum of seq in {table.name}", pc.sum(rows["seq"]).as_py(), expected.sum_of_seq)


def check_plain_records(table: Path, expected: Expected, read: Reader = read_delta) -> None:
    """The hand-written job keeps what cannot be read too, as rows with NULL."""
    rows = read(table, ["seq"])
    _same(f"rows in {table.name}", rows.num_rows, expected.good + expected.bad)
    numbered = rows["seq"].drop_null()
    _same(f"rows with a number in {table.name}", len(numbered), expected.good)
    _same(f"sum of seq in {table.name}", pc.sum(numbered).as_py(), expected.sum_of_seq)


def check_quarantine(table: Path, expected: Expected) -> None:
    rows = read_delta(table, ["partition", "offset"])
    _same("rows in the quarantine", rows.num_rows, expected.bad)
    distinct = rows.group_by(["partition", "offset"]).aggregate([]).num_rows
    _same("different records in the quarantine", distinct, expected.bad)


def check_windows(
    table: Path, expected: Expected, read: Reader = read_delta, *, watermark_ms: int | None = 30_000
) -> None:
    """Every window that the watermark has closed, with the count that a recount gives. Without a watermark
    the input has ended, which closes all of them."""
    rows = read(table, ["start", "device", "readings"])
    closed = {
        key: count
        for key, count in expected.windows.items()
        if watermark_ms is None or key[0] + WINDOW_MS <= expected.newest_ms - watermark_ms
    }
    _same("closed windows", rows.num_rows, len(closed))
    starts = pc.cast(rows["start"], pa.int64()).to_numpy() // 1000
    devices = pc.cast(pc.utf8_slice_codeunits(rows["device"], 2), pa.int64()).to_numpy()
    found = dict(
        zip(zip(starts.tolist(), devices.tolist(), strict=True), rows["readings"].to_pylist(), strict=True)
    )
    wrong = [key for key, count in closed.items() if found.get(key) != count]
    if wrong:
        start, device = wrong[0]
        raise NotExactError(
            f"{len(wrong)} windows are not what a recount gives; the first: second "
            f"{(start - BASE_MS) // 1000}, device {device} of {DEVICES}: "
            f"{found.get(wrong[0])} instead of {closed[wrong[0]]}"
        )


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise NotExactError(f"{what}: {found}, expected {expected}")
