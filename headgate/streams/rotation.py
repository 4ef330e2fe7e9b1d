"""Keeps a driver's log from filling the disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["rotate"]

_LIMIT_BYTES = 64 * 1024 * 1024
_KEEP = 5


def rotate(log: Path, limit: int = _LIMIT_BYTES, keep: int = _KEEP) -> bool:
    """Move a log that has grown past `limit` to `<log>.1` and so on; False while it is smaller.

    The driver may have it open: it is copied and cut, not renamed. The driver appends, so its next line
    is the first of the cut file; lines written between copy and cut are lost, which a log can bear.
    """
    try:
        if log.stat().st_size < limit:
            return False
    except FileNotFoundError:
        return False
    for number in range(keep - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)
    return True
