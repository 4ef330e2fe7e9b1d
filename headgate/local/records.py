"""Which process is which service: records that outlive the process manager.

A process is proved by boot id, pid and start ticks, see headgate.streams.proc. Its
children are found by process group and session, or by the marker in their environment. So nothing
that is not ours is ever signalled, even after a reboot or when pids wrap around.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from headgate.streams import proc

__all__ = [
    "MARKER",
    "Record",
    "all_records",
    "end",
    "family",
    "is_alive",
    "read_record",
    "record_of_pid",
    "record_of_this_process",
    "write_record",
]

# Not HEADGATE_…: settings refuse variables of that prefix that they do not know.
MARKER = "_HEADGATE_SERVICE"
PROC = Path("/proc")
PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Record:
    """One incarnation of one service. `whole_tree`: its descendants end with it, wherever they are."""

    name: str
    boot: str
    pid: int
    ticks: int
    session: int
    marker: str
    digest: str
    whole_tree: bool = True


def record_of_this_process(name: str, marker: str, digest: str, whole_tree: bool) -> Record:
    """The record of the calling process, which keeps its pid over `exec`."""
    pid = os.getpid()
    own = proc.read(pid)
    if own is None:
        raise RuntimeError("this process is not in /proc")
    return Record(name, proc.boot_id(), pid, own.ticks, own.session, marker, digest, whole_tree)


def record_of_pid(name: str, pid: int) -> Record | None:
    """The record of a process that carries no marker; None when it is gone."""
    found = proc.read(pid)
    if found is None:
        return None
    return Record(name, proc.boot_id(), pid, found.ticks, found.session, "", "", False)


def write_record(folder: Path, record: Record) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{record.name}.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
    temporary.replace(folder / f"{record.name}.json")


def read_record(folder: Path, name: str) -> Record | None:
    """The newest record of this service; a torn or foreign file counts as none."""
    try:
        return Record(**json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def all_records(folder: Path) -> list[Record]:
    names = sorted(path.stem for path in folder.glob("*.json")) if folder.is_dir() else []
    return [record for name in names if (record := read_record(folder, name)) is not None]


def is_alive(record: Record) -> bool:
    """Whether this very process still runs."""
    return proc.is_same(record.pid, record.ticks, record.boot)


def family(record: Record) -> list[int]:
    """Pids of the recorded process and of what it left behind, without those that left on purpose.

    With `whole_tree` every carrier of the marker belongs; without it only the process group, as
    the supervisor's drivers have to outlive it.
    """
    if record.boot != proc.boot_id():
        return []
    wanted = f"{MARKER}={record.marker}".encode()
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        pid = int(entry.name)
        seen = _look(pid)
        if seen is None or not seen.alive:
            continue
        itself = pid == record.pid and seen.ticks == record.ticks
        grouped = seen.group == record.pid and seen.session == record.session and seen.ticks >= record.ticks
        if itself or grouped or (record.whole_tree and _carries(pid, wanted)):
            found.append(pid)
    return found


def end(record: Record, seconds: float) -> list[int]:
    """Ask the whole family to end, then make it; returns the pids that had to be killed."""
    _signal(family(record), signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while (left := family(record)) and time.monotonic() < deadline:
        time.sleep(PAUSE)
    killed = list(left)
    deadline = time.monotonic() + 5
    while left and time.monotonic() < deadline:
        _signal(left, signal.SIGKILL)
        time.sleep(PAUSE)
        left = family(record)
    return killed


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _carries(pid: int, entry: bytes) -> bool:
    try:
        return entry in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False  # gone meanwhile, or another user's: not ours


def _look(pid: int) -> proc.Process | None:
    try:
        return proc.read(pid)
    except PermissionError:
        return None  # /proc hides the processes of other users: not ours
