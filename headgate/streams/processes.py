"""Drivers as processes: start, look, signal, kill, and prove dead. No store, no decisions.

A process is ours only if its id, its start (ticks since the boot) and its nonce agree. Signals go
through a pidfd that was opened before that was checked, so they cannot reach a later process with the
same id. The nonce's first part names the stream and its state folder, so everything that any
incarnation left behind can be found. A driver that was a spare has the spare's nonce, which the stream's
folder notes before the spare is told whose it is.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headgate.streams import proc
from headgate.streams.handover import RunOrder
from headgate.streams.proc import Marks
from headgate.streams.record import Incarnation

__all__ = [
    "Launch",
    "is_driver",
    "kill_all",
    "marks_of",
    "new_nonce",
    "nonce_prefix",
    "note_mark",
    "order_of",
    "remains",
    "runners_of",
    "spawn",
    "terminate",
]


_NOTED = "spares-taken"  # in a stream's folder: the nonces of spares that became its drivers


@dataclass(frozen=True, slots=True)
class Launch:
    """All that a runner needs to start one driver."""

    incarnation: Incarnation
    folder: Path
    log: Path
    home: Path
    command: Sequence[str]
    environment: Mapping[str, str]


def nonce_prefix(folder: Path) -> str:
    """Names a stream of one state folder; two installations on a machine never meet."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16] + "-"


def new_nonce(folder: Path, epoch: int) -> str:
    return f"{nonce_prefix(folder)}{epoch}-{secrets.token_hex(8)}"


def marks_of(folder: Path) -> Marks:
    """What the nonces of everything that ever ran for a stream begin with."""
    try:
        noted = (folder / _NOTED).read_text(encoding="ascii").split()
    except FileNotFoundError:
        noted = []
    return (nonce_prefix(folder), *noted)


def note_mark(folder: Path, nonce: str) -> None:
    """Count a spare among a stream's processes from now on; those that are gone are dropped."""
    folder.mkdir(parents=True, exist_ok=True)
    living = set(proc.nonces())
    kept = [mark for mark in marks_of(folder)[1:] if mark in living and mark != nonce]
    draft = folder / f".{_NOTED}.{os.getpid()}"
    with draft.open("w", encoding="ascii") as stream:
        stream.write("".join(f"{mark}\n" for mark in [*kept, nonce]))
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(folder / _NOTED)


def order_of(launch: Launch) -> RunOrder:
    begun = launch.incarnation
    return RunOrder(
        stream=begun.stream,
        epoch=begun.epoch,
        generation=begun.generation,
        contract_hash=begun.contract_hash,
        nonce=begun.nonce,
        folder=str(launch.folder),
        log=str(launch.log),
        command=tuple(launch.command),
    )


def spawn(launch: Launch) -> subprocess.Popen[bytes]:
    """Start the runner in a session of its own. The caller reaps it."""
    order = order_of(launch)
    launch.folder.mkdir(parents=True, exist_ok=True)
    arguments = [sys.executable, "-m", proc.RUNNER_MODULE]
    arguments += ["--stream", order.stream, "--epoch", str(order.epoch)]
    arguments += ["--generation", str(order.generation), "--contract", order.contract_hash]
    arguments += ["--nonce", order.nonce, "--dir", order.folder, "--log", order.log, "--"]
    launch.log.parent.mkdir(parents=True, exist_ok=True)
    with launch.log.open("ab") as log:
        return subprocess.Popen(
            [*arguments, *order.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=launch.home,
            env=dict(launch.environment),
            start_new_session=True,
        )


def is_driver(pid: int | None, ticks: int | None, nonce: str) -> bool:
    """Whether this process is that driver, and lives. A stopped process lives, one that is about to end
    still does, a zombie does not."""
    if pid is None or ticks is None:
        return False
    if proc.start_ticks(pid) != ticks:
        return False
    try:
        return proc.nonce_of(pid) == nonce or proc.is_ending(pid)
    except PermissionError:
        # Another user's process with this id and start: it is taken for the driver, since to think it
        # dead could start a second one. A signal to it will fail and say so.
        return True


def terminate(pid: int, ticks: int, nonce: str) -> bool:
    """SIGTERM to the driver's own process alone: its JVM must live until the batch is committed."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not is_driver(pid, ticks, nonce):
            return False
        signal.pidfd_send_signal(handle, signal.SIGTERM)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def remains(marks: Marks) -> list[proc.Process]:
    """Every living process that any driver with this nonce or these marks has started, and itself."""
    return proc.marked(marks)


def runners_of(marks: Marks) -> dict[int, str]:
    return proc.runners(marks)


def kill_all(marks: Marks, *, runners: bool = False) -> int:
    """SIGKILL every driver with these marks and all that it started, stopped ones too.

    Answers how many were still alive and could be told by their mark: call until it is 0. Of a driver
    itself `is_driver` says whether it is gone. Runners live on to write the exit status, unless they shall
    go too because no driver of theirs ever came.
    """
    members = proc.marked(marks)
    for member in members:
        proc.kill(member.pid, member.ticks)
    idle = proc.runners(marks) if runners else {}
    for pid in idle:
        ticks = proc.start_ticks(pid)
        if ticks is not None:
            proc.kill(pid, ticks)
    return len(members) + len(idle)
