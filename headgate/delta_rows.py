"""The rows of a Delta table as an Arrow dataset that is read without Python on Arrow's own threads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from headgate.errors import HeadgateError
from headgate.tables.answers import answer_of, cause_of, first_line
from headgate.tables.place import Place, S3Folder

if TYPE_CHECKING:
    import pyarrow.dataset
    import pyarrow.fs
    from deltalake import DeltaTable

__all__ = ["delta_rows", "reading", "table_files"]

# What Arrow says where the store has failed, and the file has not.
_OF_STORE = re.compile(r"AWS Error (?P<gone>RESOURCE_NOT_FOUND|NO_SUCH_KEY)?")


def delta_rows(table: DeltaTable, at: Place | None = None) -> pyarrow.dataset.Dataset:
    """What the table holds at the version it was opened at. `at`: where it is, or any place near it on S3.

    deltalake's own dataset reads through Python objects. A reader thread of Arrow that still lets go of
    one when the process ends is unwound by the interpreter, and C++ answers with abort(): a command that
    had printed its result died with SIGABRT.
    """
    return table.to_pyarrow_dataset(filesystem=table_files(table, at))


@contextmanager
def reading(at: Place | None) -> Iterator[None]:
    """Around all that reads such rows: what a store answers to Arrow, raised as headgate's own errors, and a
    file that is gone as FileNotFoundError. All of a disk goes on as it is."""
    try:
        yield
    except OSError as error:
        found = _OF_STORE.search(str(error))
        if not isinstance(at, S3Folder) or isinstance(error, HeadgateError) or found is None:
            raise
        if found["gone"]:
            raise FileNotFoundError(first_line(error)) from cause_of(error)
        raise answer_of(at, error) from cause_of(error)


def table_files(table: DeltaTable, at: Place | None = None) -> pyarrow.fs.SubTreeFileSystem:
    """The folder of the table, as Arrow reads it."""
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    uri = urlsplit(table.table_uri)
    if isinstance(at, S3Folder):
        return SubTreeFileSystem(f"{uri.netloc}{uri.path}", at.access.for_arrow())
    return SubTreeFileSystem(unquote(uri.path), LocalFileSystem())
