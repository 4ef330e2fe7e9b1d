"""A hand-written job in a process of its own, as the other side of a comparison."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.place import CHECKOUT, Place

__all__ = ["Ran", "run_plain"]

_DEADLINE = 3600.0


@dataclass(frozen=True, slots=True)
class Ran:
    """A job that has read its topic to the end: when its process started, and what it left."""

    started: float
    table: Path
    checkpoint: Path


def run_plain(place: Place, module: str, topic: str, form: str = "json", *, batch: int, memory: str) -> Ran:
    """Run `bench.plain_records` or `bench.plain_windows` over a topic with records of one form."""
    table, checkpoint, scratch = (place.plain / name for name in ("table", "checkpoint", "scratch"))
    scratch.mkdir(parents=True)
    command = [sys.executable, "-m", module, "--brokers", place.brokers, "--topic", topic]
    command += ["--table", str(table), "--checkpoint", str(checkpoint), "--scratch", str(scratch)]
    command += ["--form", form, "--jars", str(place.settings().jars_dir)]
    command += ["--batch", str(batch), "--memory", memory]
    log = place.root / "log" / f"{module}-{topic}.log"
    log.parent.mkdir(exist_ok=True)
    started = time.time()
    with log.open("wb") as stream:
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            env={**os.environ, "PYSPARK_PYTHON": sys.executable},
            stdout=stream,
            stderr=subprocess.STDOUT,
            timeout=_DEADLINE,
            check=False,
        )
    if done.returncode != 0:
        raise SystemExit(f"error: {module} ended with {done.returncode}, see {log}")
    return Ran(started, table, checkpoint)
