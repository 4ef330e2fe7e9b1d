"""Stands between the process manager and a service: `python -m headgate.local.launch NAME --spec FILE …`.

The services must outlive a kill -9 of the manager, so they write to their own log, never into its
pipes, and their records say who they are. When the manager starts a service again

| the recorded process | the launcher |
|---|---|
| lives, same digest | adopts it: stays in front of it, passes signals on, ends when it ends |
| lives, other digest | ends it and its children, then becomes the new one |
| is dead, children left | ends the children, then becomes the new one |
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from headgate.local.records import (
    MARKER,
    Record,
    end,
    family,
    is_alive,
    read_record,
    record_of_this_process,
    write_record,
)

__all__ = ["main"]

ROTATE_BYTES = 50 * 1024 * 1024
EXIT_AFTER_ADOPTED = 75


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m headgate.local.launch")
    parser.add_argument("name")
    parser.add_argument("--run", type=Path, required=True, help="folder of the records")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--spec", type=Path, required=True, help="JSON: command, environ, …")
    parser.add_argument("--digest", required=True, help="changes when the service is not the same any more")
    options = parser.parse_args(arguments)
    _own_log(options.log)
    spec = json.loads(options.spec.read_text(encoding="utf-8"))
    previous = read_record(options.run, options.name)
    if previous is not None and is_alive(previous) and previous.digest == options.digest:
        return _adopt(previous, spec["stop_seconds"])
    if previous is not None and family(previous):
        _note(f"ending what is left of {options.name}, pid {previous.pid}")
        killed = end(previous, spec["stop_seconds"])
        if killed:
            _note(f"had to kill {killed}")
    marker = f"{options.name}@{options.run}#{secrets.token_hex(8)}"
    record = record_of_this_process(options.name, marker, options.digest, spec["whole_tree"])
    write_record(options.run, record)
    command = spec["command"]
    try:
        os.execvpe(command[0], command, {**_inherited(), **spec["environ"], MARKER: marker})
    except OSError as error:
        _note(f"{command[0]} cannot be started: {error.strerror}")
        return 127


def _inherited() -> dict[str, str]:
    """The manager's environment without its settings: those are in the specification, and may be newer."""
    return {key: value for key, value in os.environ.items() if not key.startswith("HEADGATE_")}


def _own_log(path: Path) -> None:
    """Send stdout and stderr to the log, so that the manager's death closes no pipe of ours.

    The manager's end of our stdin stays open with a reader: supervisord can hold on to its number under
    `poll` and, once nobody reads, turns in a loop over an error that it does not look at.
    """
    os.set_inheritable(os.dup(0), True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > ROTATE_BYTES:
        path.replace(path.with_suffix(path.suffix + ".1"))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.close(null)


def _adopt(record: Record, stop_seconds: float) -> int:
    """Stand in front of a process that lives already, until it ends."""
    try:
        process = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return EXIT_AFTER_ADOPTED
    if not is_alive(record):  # the pid may have changed hands before the descriptor was ours
        return EXIT_AFTER_ADOPTED
    _note(f"adopted {record.name}, pid {record.pid}")
    asked: list[float] = []

    def forward(_number: int, _frame: object) -> None:
        if not asked:
            asked.append(time.monotonic())

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    while True:
        ended, _, _ = select.select([process], [], [], 0.2)
        if ended:
            return EXIT_AFTER_ADOPTED
        if asked:
            # The manager will kill us soon after; the service must be gone before that.
            end(record, max(1.0, stop_seconds - 3))
            return 0


def _note(text: str) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f"{now} launch: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
