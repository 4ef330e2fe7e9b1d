"""A disk with so much room left, for tests of what is written to files."""

from __future__ import annotations

import errno
import os
from io import FileIO
from pathlib import Path
from typing import Any

__all__ = ["Disk"]

_fsync = os.fsync


class Disk:
    """`room` in bytes (None: enough); whether a file can be cut, and synced."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.cuts = True
        self.syncs = True

    def opened(self, path: Path, mode: str, **options: Any) -> FileIO:
        return _File(self, path, mode, **options)

    def fsync(self, handle: int) -> None:
        if not self.syncs:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        _fsync(handle)


class _File(FileIO):
    def __init__(self, disk: Disk, path: Path, mode: str, **options: Any) -> None:
        super().__init__(path, mode, **options)
        self._disk = disk

    def write(self, data: Any) -> int:
        room = self._disk.room
        if room is None:
            return super().write(data) or 0
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(data[:room]) or 0  # a full disk takes what still fits
        self._disk.room = room - written
        return written

    def truncate(self, size: int | None = None) -> int:
        if not self._disk.cuts:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        before = os.fstat(self.fileno()).st_size
        cut = super().truncate(size)
        if self._disk.room is not None:
            self._disk.room += before - cut
        return cut
