"""Ends drivers without their supervisor, by what their runners wrote: for `down` on a platform half dead."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headgate.streams.handover import runner_note
from headgate.streams.proc import is_same

__all__ = ["Process", "end_drivers", "live_drivers", "live_processes"]

PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Process:
    """A runner or a driver that lives; `stream` is the stream, or the replay, whose it is."""

    stream: str
    role: str
    pid: int
    ticks: int
    boot: str


def live_processes(state: Path) -> list[Process]:
    """Every runner and driver of this installation that lives now."""
    folders = [*(state / "streams").glob("*"), *(state / "replays").glob("*/*")]
    return [process for folder in sorted(folders) for process in _recorded(folder) if _lives(process)]


def live_drivers(state: Path) -> list[Process]:
    return [process for process in live_processes(state) if process.role == "driver"]


def end_drivers(state: Path, graceful: float, forced: float) -> list[Process]:
    """Ask every driver to commit its batch and end, kill what does not; returns those that were killed."""
    _signal(live_drivers(state), signal.SIGTERM)
    _until_gone(state, graceful)
    killed = live_drivers(state)
    _signal(live_processes(state), signal.SIGKILL)
    _until_gone(state, forced)
    return killed


def _until_gone(state: Path, seconds: float) -> None:
    # The runner ends after its driver, when it has written down how that ended.
    deadline = time.monotonic() + seconds
    while live_processes(state) and time.monotonic() < deadline:
        time.sleep(PAUSE)


def _recorded(folder: Path) -> Iterator[Process]:
    for file in sorted(folder.glob("runner-*.json")):
        try:
            note = runner_note(file.parent, int(file.stem.removeprefix("runner-")))
        except ValueError:
            continue  # torn by a crash; the driver's nonce is the supervisor's way to find it
        if note is not None:
            stream = file.parent.name
            yield Process(stream, "driver", note.driver_pid, note.driver_ticks, note.boot_id)
            yield Process(stream, "runner", note.runner_pid, note.runner_ticks, note.boot_id)


def _lives(process: Process) -> bool:
    return is_same(process.pid, process.ticks, process.boot)


def _signal(processes: list[Process], number: int) -> None:
    for process in processes:
        if _lives(process):
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue
