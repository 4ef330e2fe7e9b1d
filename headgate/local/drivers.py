"""Ends drivers without their supervisor, by what their runners wrote: for `down` on a platform half dead."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

__all__ = ["Process", "end_drivers", "live_drivers", "live_processes"]

PAUSE = 0.1
# Start times come from the kernel's clock ticks; two readings of one process differ by less.
SAME_START = 0.05


@dataclass(frozen=True, slots=True)
class Process:
    """A runner or a driver that lives; `stream` is whose it is."""

    stream: str
    role: str
    pid: int
    started: float


def live_processes(state: Path) -> list[Process]:
    """Every runner and driver of this installation that lives now."""
    return [process for process in _recorded(state / "streams") if _lives(process)]


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
    for file in sorted(folder.glob("*/runner-*.json")):
        try:
            record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # torn by a crash; the driver's nonce is the supervisor's way to find it
        for role in ("driver", "runner"):
            pid, started = record.get(f"{role}_pid"), record.get(f"{role}_start")
            if isinstance(pid, int) and isinstance(started, int | float):
                yield Process(file.parent.name, role, pid, float(started))


def _lives(process: Process) -> bool:
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.started) < SAME_START
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(processes: list[Process], number: int) -> None:
    for process in processes:
        if _lives(process):
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue
