"""The files of a spool: one folder per process, segments in it, and whose they are."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from producers.records import MAGIC, Damage, Framed, Record, frame, frames

__all__ = [
    "Handed",
    "OwnerFolder",
    "Segment",
    "adopt",
    "alone",
    "disk_for",
    "keep_apart",
    "leave",
    "new_segment",
    "note",
    "own_folder",
    "read",
    "remove",
    "write_whole",
]


@dataclass(slots=True)
class Segment:
    path: Path
    size: int
    records: int  # not acknowledged
    acked: int = 0  # offset
    damage: Damage | None = None


@dataclass(slots=True)
class Handed:
    """A record that was read from the spool and is on its way; `acknowledge` it when it has arrived."""

    record: Record
    segment: Segment
    start: int
    end: int
    done: bool = False


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


def disk_for(error: OSError) -> str:
    """What a write that failed would have needed."""
    return f"a disk that can be written ({error.strerror or error})"


def new_segment(path: Path) -> tuple[Segment, FileIO]:
    """A new file to append to, safe from a power cut. Leaves nothing behind when it raises OSError."""
    file = FileIO(path, "xb", opener=_appending)
    try:
        write_whole(file, MAGIC, 0)
        _sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            file.close()
            path.unlink()
        raise
    return Segment(path, len(MAGIC), 0), file


def _appending(path: str, flags: int) -> int:
    # Each write goes to the end, wherever a write that failed had got to.
    return os.open(path, flags | os.O_APPEND | os.O_CLOEXEC, 0o666)


def write_whole(file: FileIO, data: bytes, end: int) -> None:
    """Append to a file that is `end` bytes long: all of the data, or an OSError and, if possible, none."""
    try:
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with contextlib.suppress(OSError):  # the file's size shows it
            file.truncate(end)
        raise


def keep_apart(folder: OwnerFolder, record: Record) -> Path:
    """Append to the folder's file of refused records. Raises OSError, and leaves no half record then."""
    path = folder.path / "refused.seg"
    with FileIO(path, "ab") as file:
        end = file.seek(0, os.SEEK_END)
        write_whole(file, (b"" if end else MAGIC) + frame(record), end)
        os.fsync(file.fileno())
    return path


def leave(folder: OwnerFolder) -> None:
    """Let go of a folder, and remove it when there is nothing in it."""
    if all(item.name == "lock" for item in folder.path.iterdir()):
        shutil.rmtree(folder.path, ignore_errors=True)  # an empty folder that stays does no harm
    os.close(folder.lock)


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
    try:
        draft.write_text(str(segment.acked), encoding="ascii")
        draft.replace(segment.path.with_suffix(".ack"))
    except OSError:
        draft.unlink(missing_ok=True)
        raise


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


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
