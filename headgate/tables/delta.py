"""Delta tables wherever they are, opened with deltalake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.tables.place import Place, S3Folder

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["is_table", "open_table", "storage_options"]


def open_table(at: Place, version: int | None = None) -> DeltaTable:
    """Raises TableNotFoundError, and what deltalake and the store raise."""
    from deltalake import DeltaTable

    return DeltaTable(str(at), version=version, storage_options=storage_options(at))


def is_table(at: Place) -> bool:
    from deltalake import DeltaTable

    return DeltaTable.is_deltatable(str(at), storage_options(at))


def storage_options(at: Place) -> dict[str, str] | None:
    """What deltalake needs beside the address; None on a disk."""
    return at.access.for_deltalake() if isinstance(at, S3Folder) else None
