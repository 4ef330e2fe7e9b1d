"""Processes as Linux shows them in /proc: who they are, whether they live, what marks them.

A process id alone names nobody: it is used again. Together with its start time in clock ticks since
the boot, and the id of that boot, it names one process, and no step of the wall clock changes that. All
that must know whether this is still that process ask here. A driver and all that it
starts (JVM, Python workers) inherit the variable HEADGATE_NONCE, so they can be found even when their
parents are gone and whatever session or group they moved to.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = [
    "NONCE",
    "RUNNER_MODULE",
    "Marks",
    "Process",
    "boot_id",
    "is_ending",
    "is_same",
    "kill",
    "marked",
    "nonce_of",
    "nonces",
    "read",
    "runners",
    "start_ticks",
]

NONCE = "HEADGATE_NONCE"
RUNNER_MODULE = "headgate.streams.runner"
Marks = str | tuple[str, ...]  # what a nonce begins with, one of several
_PROC = Path("/proc")
_DEAD_STATES = "ZXx"


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    group: int
    session: int
    ticks: int
    state: str
    threads: int = 1

    @property
    def alive(self) -> bool:
        """A zombie runs nothing and holds nothing, unless threads of it are still in a system call."""
        return self.state not in _DEAD_STATES or self.threads > 1


@lru_cache(maxsize=1)
def boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def read(pid: int) -> Process | None:
    """The process with this id now, zombies included."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may hold spaces and parentheses of its own.
    fields = stat.rpartition(")")[2].split()
    parent, group, session = (int(field) for field in fields[1:4])
    return Process(
        pid, parent, group, session, ticks=int(fields[19]), state=fields[0], threads=int(fields[17])
    )


def start_ticks(pid: int) -> int | None:
    """The start of a living process in ticks since the boot; None if it is gone or a zombie."""
    process = read(pid)
    return process.ticks if process is not None and process.alive else None


def is_same(pid: int, ticks: int, boot: str) -> bool:
    """Whether the process that was noted with these three still lives: no other one has them all."""
    return boot == boot_id() and start_ticks(pid) == ticks


def nonce_of(pid: int) -> str | None:
    """The nonce in the environment that a process was started with; None if it has none or is gone.

    Raises PermissionError for a process of another user.
    """
    mark = f"{NONCE}=".encode()
    for item in _environ(pid).split(b"\0"):
        if item.startswith(mark):
            return item[len(mark) :].decode(errors="replace")
    return None


def is_ending(pid: int) -> bool:
    """Killed and not gone yet: its memory is given back, so nobody can read any more what marked it."""
    process = read(pid)
    return process is not None and process.alive and not _environ(pid)


def _environ(pid: int) -> bytes:
    """Of a process whose first thread has ended before the others, what one of those shows."""
    own = _bytes(_PROC / str(pid) / "environ")
    if own:
        return own
    try:
        threads = sorted((_PROC / str(pid) / "task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return b""
    return next((found for thread in threads if (found := _bytes(thread / "environ"))), b"")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def marked(marks: Marks) -> list[Process]:
    """All living processes whose nonce begins with one of `marks`, the oldest first."""
    found = []
    for pid, nonce in _with_nonce():
        process = read(pid)
        if nonce.startswith(marks) and process is not None and process.alive:
            found.append(process)
    return sorted(found, key=lambda process: (process.ticks, process.pid))


def nonces() -> list[str]:
    """The nonces of all living processes that have one."""
    return [nonce for pid, nonce in _with_nonce() if start_ticks(pid) is not None]


def _with_nonce() -> Iterator[tuple[int, str]]:
    """Processes of other users are not ours to look into and are left out."""
    for pid in _pids():
        try:
            nonce = nonce_of(pid)
        except PermissionError:
            continue
        if nonce is not None:
            yield pid, nonce


def runners(marks: Marks) -> dict[int, str]:
    """Living runners whose `--nonce` begins with one of `marks`: process id to nonce."""
    found = {}
    for pid in _pids():
        arguments = _arguments(pid)
        if RUNNER_MODULE not in arguments or "--nonce" not in arguments:
            continue
        nonce = arguments[arguments.index("--nonce") + 1]
        process = read(pid)
        if nonce.startswith(marks) and process is not None and process.alive:
            found[pid] = nonce
    return found


def kill(pid: int, ticks: int) -> None:
    """SIGKILL to exactly this process, stopped or not; nothing if it is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_ticks(pid) == ticks:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def _arguments(pid: int) -> list[str]:
    own = _bytes(_PROC / str(pid) / "cmdline").decode(errors="replace").split("\0")
    # What follows `--` is the driver's.
    return own[: own.index("--")] if "--" in own else own


def _pids() -> Iterator[int]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)
