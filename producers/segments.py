"""The files of a spool: one folder per process, segments in it, and whose they are."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from producers.records import Damage, Framed, frames

__all__ = ["OwnerFolder", "Segment", "adopt", "alone", "note", "own_folder", "read", "remove", "sync_folder"]


@dataclass(slots=True)
class Segment:
    path: Path
    size: int
    records: int  # not acknowledged
    acked: int = 0  # offset
    damage: Damage | None = None


@dataclass(slots=True)
class OwnerFolder:
    path: Path
    lock: int
    segments: list[Segment] = field(default_factory=list)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Nobody else makes, takes over or removes folders of this root meanwhile."""
    handle = os.open(root / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def adopt(root: Path, report: Callable[[str], None]) -> list[OwnerFolder]:
    """The folders of owners that are gone, locked for us, the oldest first; says what cannot be read."""
    found = []
    for path in sorted(item for item in root.iterdir() if item.is_dir()):
        lock = _try_lock(path)
        if lock is None:
            continue
        folder = OwnerFolder(path, lock)
        for file in sorted(path.glob("[0-9]*.seg")):
            segment = _open(file, report)
            if segment.records:
                folder.segments.append(segment)
            else:
                remove(segment)
        found.append(folder)
    return found


def own_folder(root: Path) -> OwnerFolder:
    """A new folder for this process, locked."""
    path = root / f"{time.time_ns():020d}-{os.getpid()}"
    path.mkdir(parents=True)
    lock = _try_lock(path)
    if lock is None:
        raise AssertionError(f"{path} is new and yet locked")
    return OwnerFolder(path, lock)


def _open(path: Path, report: Callable[[str], None]) -> Segment:
    acked = _noted(path.with_suffix(".ack"))
    segment = Segment(path, path.stat().st_size, 0, acked)
    for item in read(path, acked):
        if isinstance(item, Damage):
            segment.damage = item
            what = "ends in the middle of a record" if item.torn else "is damaged"
            report(f"{path} {what} at byte {item.offset}: {item.bytes_left} bytes cannot be read")
        else:
            segment.records += 1
    return segment


def _noted(path: Path) -> int:
    text = path.read_text(encoding="ascii") if path.is_file() else ""
    return int(text) if text.isdigit() else 0  # a power cut can leave it empty; records then go twice


def read(path: Path, start: int) -> Iterator[Framed | Damage]:
    yield from frames(memoryview(path.read_bytes()), start)


def note(segment: Segment) -> None:
    draft = segment.path.with_suffix(".ack.tmp")
    draft.write_text(str(segment.acked), encoding="ascii")
    draft.replace(segment.path.with_suffix(".ack"))


def remove(segment: Segment) -> None:
    """What could be read has arrived. The rest is kept, but for a torn end, which was never whole."""
    if segment.damage is not None and not segment.damage.torn:
        segment.path.rename(segment.path.with_suffix(".damaged"))
    else:
        segment.path.unlink()
    segment.path.with_suffix(".ack").unlink(missing_ok=True)


def _try_lock(folder: Path) -> int | None:
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
