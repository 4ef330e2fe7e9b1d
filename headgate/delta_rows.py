"""The rows of a Delta table as an Arrow dataset that is read without Python on Arrow's own threads."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from headgate.tables.place import Place, S3Folder

if TYPE_CHECKING:
    import pyarrow.dataset
    import pyarrow.fs
    from deltalake import DeltaTable

__all__ = ["delta_rows", "table_files"]


def delta_rows(table: DeltaTable, at: Place | None = None) -> pyarrow.dataset.Dataset:
    """What the table holds at the version it was opened at. `at`: where it is, or any place near it on S3.

    deltalake's own dataset reads through Python objects. A reader thread of Arrow that still lets go of
    one when the process ends is unwound by the interpreter, and C++ answers with abort(): a command that
    had printed its result died with SIGABRT.
    """
    return table.to_pyarrow_dataset(filesystem=table_files(table, at))


def table_files(table: DeltaTable, at: Place | None = None) -> pyarrow.fs.SubTreeFileSystem:
    """The folder of the table, as Arrow reads it."""
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    uri = urlsplit(table.table_uri)
    if isinstance(at, S3Folder):
        return SubTreeFileSystem(f"{uri.netloc}{uri.path}", at.access.for_arrow())
    return SubTreeFileSystem(unquote(uri.path), LocalFileSystem())
