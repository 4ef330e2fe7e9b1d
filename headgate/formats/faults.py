"""A fault in reading records in columns costs time and no record: they are read one at a time then."""

from __future__ import annotations

import sys
import threading
import traceback

__all__ = ["tell_once"]

_first = threading.Lock()  # the first fault of a process takes it, and keeps it


def tell_once(fault: Exception) -> None:
    """To the process's log, which of a worker is its driver's: what is wrong once is wrong in each batch."""
    if not _first.acquire(blocking=False):
        return
    what = "".join(traceback.format_exception(fault))
    sys.stderr.write(
        "records could not be read in columns, by a fault of headgate's own. They are read one at a time:"
        " that is slower and gives the same. This is said once for a process; report it with what follows.\n"
        f"{what}"
    )
    sys.stderr.flush()
