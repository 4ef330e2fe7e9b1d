"""Delta tables wherever they are, opened with deltalake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headgate.tables.answers import answered, cause_of
from headgate.tables.place import Place, S3Folder

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["answered_to_delta", "is_table", "open_table", "storage_options"]


# What deltalake says where the store, or the way to it, has failed, and the log has not.
_OF_STORE = re.compile(r"Generic S3 error|Error performing (?:GET|HEAD|PUT|POST|list)|error sending request")


def open_table(at: Place, version: int | None = None) -> DeltaTable:
    """Raises TableNotFoundError, what deltalake raises, and what a store answers as headgate's own errors."""
    from deltalake import DeltaTable

    options = storage_options(at)
    with answered_to_delta(at):
        return DeltaTable(str(at), version=version, storage_options=options)


def is_table(at: Place) -> bool:
    from deltalake import DeltaTable

    options = storage_options(at)
    with answered_to_delta(at):
        return DeltaTable.is_deltatable(str(at), options)


def storage_options(at: Place) -> dict[str, str] | None:
    """What deltalake needs beside the address; None on a disk."""
    return at.access.for_deltalake() if isinstance(at, S3Folder) else None


@contextmanager
def answered_to_delta(at: Place) -> Iterator[None]:
    """What a store answers to deltalake, raised as headgate's own errors; all of a disk goes on as it is, and
    so does a commit that another writer was faster than."""
    from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

    if not isinstance(at, S3Folder):
        yield
        return
    with answered(at):
        try:
            yield
        except (TableNotFoundError, CommitFailedError):
            raise
        except DeltaError as error:
            if not _OF_STORE.search(str(error)):
                raise
            raise OSError(str(error)) from cause_of(error)
