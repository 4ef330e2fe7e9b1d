"""Running producers, from the files in which they note the port of their metrics."""

from __future__ import annotations

import json
from pathlib import Path

import psutil

from monitoring.watch import Reading

__all__ = ["read_producers"]


def read_producers(state: Path) -> Reading[tuple[tuple[str, int], ...]]:
    """Pipeline and port of each `<state>/producers/*.json` whose process lives."""
    found, problems = [], []
    for file in sorted(state.glob("producers/*.json")):
        try:
            note = json.loads(file.read_text(encoding="utf-8"))
            pipeline, port, pid = note["pipeline"], note["metrics_port"], note["pid"]
        except FileNotFoundError:
            continue  # it stopped between the listing and the reading
        except (OSError, ValueError, KeyError, TypeError) as error:
            problems.append(f"{file.name}: {error}")
            continue
        if port and _lives(pid, file.stat().st_mtime):
            found.append((str(pipeline), int(port)))
    return Reading(tuple(found), tuple(problems))


def _lives(pid: int, written_at: float) -> bool:
    """A process that began after its note was written is another one with the same number."""
    try:
        return psutil.Process(pid).create_time() <= written_at + 1
    except psutil.Error:
        return False
