"""Parquet files of a Delta table, written where the records are, and what the log says of each."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headgate.arrow.statistics import Statistics
from headgate.errors import HeadgateError
from headgate.tables.files import drop_output, open_output, remove, sizes_of
from headgate.tables.place import Place

__all__ = ["TableFiles", "Written", "batch_mark", "epoch_of", "file_mark", "require"]

_log = logging.getLogger("headgate.driver")

# A row group is written when so much is there: what a task holds of an output at most.
GROUP_ROWS, GROUP_BYTES = 200_000, 32 * 1024 * 1024
FILE_BYTES = 256 * 1024 * 1024  # of what is written, before it is packed
_EPOCH = re.compile(r"part-epoch([0-9]+)-")


@dataclass(frozen=True, slots=True)
class Written:
    """One file; `path` is below its table's folder."""

    path: str
    size: int
    rows: int
    modified: int  # milliseconds
    statistics: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def file_mark(epoch: int) -> str:
    """How the names of files begin that are written for one driver. Unlike its epoch, which may come again
    where a history was wiped, it is nobody else's."""
    return f"part-epoch{epoch}-{uuid.uuid4().hex[:12]}"


def batch_mark(mark: str, batch_id: int | None) -> str:
    """The same of one batch, as far as it is known."""
    return mark if batch_id is None else f"{mark}-batch{batch_id}"


def epoch_of(name: str) -> int:
    """Of the driver that a file was written for; one that names none is older than all."""
    found = _EPOCH.match(name)
    return int(found[1]) if found else -1


class TableFiles:
    """Files of one table. What no commit names is no part of the table, and vacuum's."""

    def __init__(self, folder: Place, schema: pa.Schema, prefix: str = "part") -> None:
        self._folder = folder
        self._schema = schema
        self._prefix = prefix
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0
        self._file: _File | None = None
        self._done: list[Written] = []

    def write(self, table: pa.Table) -> None:
        if not table.num_rows:
            return
        self._waiting.append(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self) -> list[Written]:
        """The files, once all is written."""
        self._flush()
        self._end()
        return self._done

    def abandon(self) -> None:
        """Remove what was written: nobody will name it. It raises nothing: something has failed before."""
        try:
            if self._file is not None:
                self._file.drop()
        except Exception as error:  # noqa: BLE001 - what failed before matters, and vacuum finds the file
            _log.warning("a file in %s could not be removed: %s", self._folder, error)
        try:
            remove(self._folder, [each.path for each in self._done])
        except Exception as error:  # noqa: BLE001 - as above
            _log.warning("files in %s could not be removed: %s", self._folder, error)

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        if self._file is None:
            self._file = _File(self._folder, self._schema, self._prefix)
        self._file.write(table)
        self._waiting, self._rows, self._bytes = [], 0, 0
        if self._file.bytes >= FILE_BYTES:
            self._end()

    def _end(self) -> None:
        if self._file is not None:
            self._done.append(self._file.end())
            self._file = None


class _File:
    def __init__(self, folder: Place, schema: pa.Schema, prefix: str) -> None:
        self.name = f"{prefix}-{uuid.uuid4()}.snappy.parquet"
        self.bytes = 0
        self._path = folder / self.name
        self._file = open_output(self._path)
        self._rows = 0
        self._statistics = Statistics(schema)
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression="snappy",
            # Numbers are seldom alike enough for a dictionary to be worth the time.
            use_dictionary=texts or False,
            # Parquet's bounds leave NaN out, and a reader to which it is the largest number would skip it.
            write_statistics=[field.name for field in schema if not pa.types.is_floating(field.type)],
            store_schema=False,
        )

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._statistics.add(table)
        self._rows += table.num_rows
        self.bytes += table.nbytes

    def drop(self) -> None:
        """Let nothing come of it, whatever has failed already."""
        with ExitStack() as steps:
            if isinstance(self._path, Path):
                steps.callback(self._path.unlink, missing_ok=True)
            steps.callback(self._file.close)
            steps.callback(self._writer.close)
            drop_output(self._file)

    def end(self) -> Written:
        self._writer.close()
        size = self._file.tell()
        self._file.close()
        return Written(self.name, size, self._rows, int(time.time() * 1000), self._statistics.to_json())


def require(folder: Place, files: Sequence[Written]) -> None:
    """Raise where a file is not here as it was written: what is committed must be readable."""
    for each, size in zip(files, sizes_of(folder, [each.path for each in files]), strict=True):
        if size != each.size:
            raise HeadgateError(
                f"a task has written {folder / each.path} with {each.size} bytes, and the driver finds "
                f"{'no such file' if size is None else f'{size} bytes'}: nothing was committed",
                expected="a folder of tables that the driver and all workers share, under the same path",
                help="put the tables there, or write `lane: jvm` on the outputs, then `headgate plan` and "
                "`headgate apply`",
            )
