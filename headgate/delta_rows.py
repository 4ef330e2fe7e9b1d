"""The rows of a Delta table as an Arrow dataset that is read without Python on Arrow's own threads."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import pyarrow.dataset
    from deltalake import DeltaTable

__all__ = ["delta_rows"]


def delta_rows(table: DeltaTable) -> pyarrow.dataset.Dataset:
    """What the table holds at the version it was opened at.

    deltalake's own dataset reads through Python objects. A reader thread of Arrow that still lets go of
    one when the process ends is unwound by the interpreter, and C++ answers with abort(): a command that
    had printed its result died with SIGABRT.
    """
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    uri = urlsplit(table.table_uri)
    if uri.scheme not in ("", "file"):
        return table.to_pyarrow_dataset()
    return table.to_pyarrow_dataset(filesystem=SubTreeFileSystem(unquote(uri.path), LocalFileSystem()))
