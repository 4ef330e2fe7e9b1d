"""The drivers' own files, which tell of a driver even when the supervisor is dead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import psutil

from headgate.streams.handover import UnreadableNote, runner_note
from headgate.streams.model import DriverStatus
from headgate.streams.proc import is_same
from monitoring.readings import DriverReport
from monitoring.watch import Reading

__all__ = ["read_drivers"]


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
    try:
        note = runner_note(folder, status.epoch)
    except UnreadableNote:
        note = None
    if note is not None:
        return is_same(note.driver_pid, note.driver_ticks, note.boot_id)
    # Without the runner's file: a process that began after the report is another one.
    try:
        process = psutil.Process(status.pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < status.written_at
    except psutil.Error:
        return False
