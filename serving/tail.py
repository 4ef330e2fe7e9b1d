"""The rows of an output as they come: from Redis, or from the new versions of its Delta table."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from headgate.checkpoints.layout import table_path
from headgate.contract.frozen import FrozenContract
from headgate.delta_rows import reading, table_files
from headgate.errors import NotFoundError
from headgate.settings import Settings
from headgate.tables.delta import is_table, open_table
from headgate.tables.place import Place
from serving.results import ResultStore

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["Line", "TailedOutput", "new_rows", "tail", "tailed_output"]

POLL_SECONDS = 1.0
ROWS_OF_A_VERSION = 500  # more than anyone reads


@dataclass(frozen=True, slots=True)
class Line:
    """One row, and where it comes from (a batch in Redis, a version in Delta)."""

    row: dict[str, Any]
    origin: dict[str, Any]
    omitted: int = 0  # rows before it that are not shown

    def to_json(self) -> str:
        return json.dumps({**self.origin, "row": self.row}, default=str)

    def text(self) -> str:
        return "  ".join(f"{name}={_plain(value)}" for name, value in self.row.items())


@dataclass(frozen=True, slots=True)
class TailedOutput:
    pipeline: str
    output: str
    table: Place | None  # None: in Redis


def tailed_output(settings: Settings, frozen: FrozenContract, output: str | None) -> TailedOutput:
    """Which output to follow, and where: by default the first in Redis, or else the first.

    Raises NotFoundError.
    """
    outputs = frozen.contract.outputs
    in_redis = [name for name, item in outputs.items() if any(target.redis for target in item.to)]
    name = output or (in_redis or list(outputs))[0]
    if name not in outputs:
        raise NotFoundError(
            f"the pipeline {frozen.pipeline!r} has no output {name!r}",
            expected=f"one of {', '.join(outputs)}",
        )
    if name in in_redis:
        return TailedOutput(frozen.pipeline, name, None)
    delta = next(target.delta for target in outputs[name].to if target.delta)
    return TailedOutput(frozen.pipeline, name, table_path(settings.tables, frozen.pipeline, delta))


def tail(
    settings: Settings, tailed: TailedOutput, *, last: int, say: Callable[[str], None]
) -> Iterator[Line]:
    """The last rows, then each new one, without end."""
    if tailed.table is not None:
        yield from _from_delta(tailed.table, last, say)
        return
    store = ResultStore.from_settings(settings)
    try:
        for row in store.follow(tailed.pipeline, tailed.output, last=last):
            if row is not None:
                origin = {"event_time": row.event_time, "batch_id": row.batch_id, "epoch": row.epoch}
                yield Line(dict(row.body), origin, row.omitted)
    finally:
        store.close()


def _from_delta(path: Place, last: int, say: Callable[[str], None]) -> Iterator[Line]:
    # The folder of the log comes before its first file.
    if not is_table(path):
        say(f"waiting for the first rows in {path}")
    while not is_table(path):
        time.sleep(POLL_SECONDS)
    table = open_table(path)
    version = table.version()
    if last:
        yield from _lines(new_rows(table, None, path)[-last:], version, last)
    while True:
        newest = open_table(path).version()
        for number in range(version + 1, newest + 1):
            rows = new_rows(open_table(path, number), open_table(path, number - 1), path)
            yield from _lines(rows, number, ROWS_OF_A_VERSION)
        if newest <= version:
            time.sleep(POLL_SECONDS)
        version = newest


def _lines(rows: list[dict[str, Any]], version: int, most: int) -> Iterator[Line]:
    omitted = max(len(rows) - most, 0)
    for index, row in enumerate(rows[omitted:]):
        yield Line(row, {"version": version}, omitted if index == 0 else 0)


def new_rows(table: DeltaTable, before: DeltaTable | None, at: Place | None = None) -> list[dict[str, Any]]:
    """Rows that a version has and the one before has not: appended, or changed by an upsert.

    Only files that one of both versions has alone are read, so a rewritten file shows its changes. With
    no version before, the rows of the newest file.
    """
    files = _files(table)
    if before is None:
        return _rows(table, at, dict(list(files.items())[:1]))  # the log lists the newest file first
    earlier = _files(before)
    added = _rows(table, at, {path: part for path, part in files.items() if path not in earlier})
    removed = _rows(before, at, {path: part for path, part in earlier.items() if path not in files})
    gone = Counter(json.dumps(row, default=str) for row in removed)
    fresh = []
    for row in added:
        text = json.dumps(row, default=str)
        if gone[text]:
            gone[text] -= 1
        else:
            fresh.append(row)
    return fresh


def _files(table: DeltaTable) -> dict[str, dict[str, Any]]:
    """Path of each live file to the values of its partition columns, which the file itself lacks."""
    import pyarrow as pa

    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    prefix = "partition."
    return {
        action["path"]: {
            name.removeprefix(prefix): value for name, value in action.items() if name.startswith(prefix)
        }
        for action in actions
    }


def _rows(table: DeltaTable, at: Place | None, files: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq
    from pyarrow.fs import FileType

    with reading(at):
        folder = table_files(table, at)
        rows: list[dict[str, Any]] = []
        for path, partition in files.items():
            # The log may hold the path as it is in a URL, with a partition's spaces and colons escaped.
            there = folder.get_file_info(path).type is FileType.File
            with folder.open_input_file(path if there else unquote(path)) as file:
                content = pq.ParquetFile(file).read().to_pylist()
            rows.extend({**row, **partition} for row in content)
        return rows


def _plain(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)
