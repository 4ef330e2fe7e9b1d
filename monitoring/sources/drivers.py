"""The drivers' own files, which tell of a driver even when the supervisor is dead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from headgate.streams.model import DriverStatus
from monitoring.readings import DriverReport
from monitoring.watch import Reading

__all__ = ["read_drivers"]

# psutil's start time is computed from boot time and ticks; two readings of it may differ by this much.
_SAME_START = 1.0


def read_drivers(state: Path) -> Reading[Mapping[str, DriverReport]]:
    """Every `<state>/streams/<stream>/status.json` by pipeline, with whether its process lives."""
    found, problems = {}, []
    for file in sorted(state.glob("streams/*/status.json")):
        try:
            status = DriverStatus.from_json(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            problems.append(f"{file.parent.name}: {error}")
            continue
        found[status.pipeline] = DriverReport(status, _alive(file.parent, status))
    return Reading(found, tuple(problems))


def _alive(folder: Path, status: DriverStatus) -> bool:
    """The process is there and is the one that was started: a pid alone may belong to another by now."""
    runner = _runner(folder / f"runner-{status.epoch}.json")
    started = runner.get("driver_start")
    try:
        process = psutil.Process(runner.get("driver_pid") or status.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        # Without the runner's file: a process that began after the report is another one.
        begun = process.create_time()
        return abs(begun - started) < _SAME_START if started else begun < status.written_at
    except psutil.Error:
        return False


def _runner(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
