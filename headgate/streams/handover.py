"""The files by which a runner tells supervisors, present and future, about its driver.

<state>/streams/<stream>/runner-<epoch>.lock    made by the one runner of an epoch, exclusively
<state>/streams/<stream>/runner-<epoch>.json    who runs: process ids, start times, nonce
<state>/streams/<stream>/exit-<epoch>.json      how it ended
<state>/streams/<stream>/origin-<epoch>.json    where its generation begins, if not at its checkpoint
<state>/streams/<stream>/status.json            the driver's own report
<state>/streams/<stream>/driver.lock            locked (flock) while a driver or its runner lives
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from headgate.streams.model import DriverStatus

__all__ = [
    "ExitNote",
    "RunOrder",
    "RunnerNote",
    "UnreadableNote",
    "claim",
    "claimed",
    "drop_old",
    "exit_note",
    "held",
    "hold",
    "read_report",
    "runner_note",
    "write_exit",
    "write_runner",
]


_DRIVER_LOCK = "driver.lock"

N = TypeVar("N")


class UnreadableNote(ValueError):
    """A file is there and does not hold what it should."""


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What a runner is asked to run, and where that is noted."""

    stream: str
    epoch: int
    generation: int
    contract_hash: str
    nonce: str
    folder: str
    log: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunnerNote:
    stream: str
    epoch: int
    generation: int
    contract_hash: str
    nonce: str
    runner_pid: int
    runner_start: float
    driver_pid: int
    driver_start: float
    driver_ticks: int
    boot_id: str
    runner_ticks: int = 0


@dataclass(frozen=True, slots=True)
class ExitNote:
    """How the driver ended; of `returncode` and `signal` exactly one is set."""

    returncode: int | None
    signal: int | None
    at: float


def claim(folder: Path, epoch: int) -> bool:
    """Be the runner of an epoch. False if there was one already, alive or not."""
    try:
        os.close(os.open(_lock(folder, epoch), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return False
    return True


def hold(folder: Path, seconds: float) -> int | None:
    """Lock the stream's folder for one driver; the handle, or None if another one keeps it for so long.

    The lock belongs to the open file: who inherits the handle holds it on, so it is free only when the
    runner and its driver are both gone, whatever any supervisor believes.
    """
    handle = os.open(folder / _DRIVER_LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    deadline = time.monotonic() + seconds
    while not _try_lock(handle):
        if time.monotonic() >= deadline:
            os.close(handle)
            return None
        time.sleep(0.05)
    return handle


def held(folder: Path) -> bool:
    """Whether a driver or runner of this stream lives, on this machine in whatever container."""
    try:
        handle = os.open(folder / _DRIVER_LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(handle)
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def claimed(folder: Path, epoch: int) -> bool:
    return _lock(folder, epoch).exists()


def write_runner(folder: Path, note: RunnerNote) -> None:
    _write(folder / f"runner-{note.epoch}.json", asdict(note))


def write_exit(folder: Path, epoch: int, note: ExitNote) -> None:
    _write(folder / f"exit-{epoch}.json", asdict(note))


def runner_note(folder: Path, epoch: int) -> RunnerNote | None:
    """None if there is none. Raises UnreadableNote."""
    return _note(folder / f"runner-{epoch}.json", RunnerNote)


def exit_note(folder: Path, epoch: int) -> ExitNote | None:
    """None if there is none. Raises UnreadableNote."""
    return _note(folder / f"exit-{epoch}.json", ExitNote)


def read_report(folder: Path) -> DriverStatus | None:
    """The driver's last report, of whatever epoch; None if there is none. Raises UnreadableNote."""
    path = folder / "status.json"
    data = _read(path)
    if data is None:
        return None
    try:
        return DriverStatus.from_json(data)
    except ValueError as error:
        raise UnreadableNote(f"{path}: {error}") from error


def drop_old(folder: Path, epoch: int, keep: int = 20) -> None:
    """Remove the notes of epochs long past."""
    for path in folder.glob("*-*.*"):
        match = re.fullmatch(r"(?:runner|exit|origin)-(\d+)\.(?:json|lock)", path.name)
        if match and int(match[1]) <= epoch - keep:
            path.unlink(missing_ok=True)


def _note(path: Path, kind: type[N]) -> N | None:
    data = _read(path)
    try:
        return TypeAdapter(kind).validate_python(data) if data is not None else None
    except ValueError as error:
        raise UnreadableNote(f"{path}: {error}") from error


def _lock(folder: Path, epoch: int) -> Path:
    return folder / f"runner-{epoch}.lock"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableNote(f"{path}: {error}") from error
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UnreadableNote(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise UnreadableNote(f"{path} is not a JSON object")
    return data


def _write(path: Path, data: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as stream:
        json.dump(data, stream)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
