"""The runner of a spare: a driver that is started and warmed before anybody needs it.

On standard input comes at most one line, the order that says whose driver it becomes; when the supervisor
that keeps it ends, however that happens, the input ends, and so does the spare. On standard output goes
one line, `ready`. With the driver it talks over a socket pair: `ready` comes back from there, and the
order's command goes there with the lock on the stream's folder and the stream's log.

What a JVM says below Java (that its memory is used up) goes where its standard output went when it was
started: into the spare's own log, whose end is added to the stream's when the driver has ended.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from headgate.streams.handover import RunOrder
from headgate.streams.runner import clear_remains, redirect, run, say, start

__all__ = ["READY", "run_spare"]

READY = b"ready\n"
_LAST_WORDS = 65_536


def run_spare(nonce: str, log: Path, command: Sequence[str]) -> int:
    """Warm a driver and wait for the order; 0 also when none came."""
    told = os.dup(1)
    redirect(log)
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    driver = start(nonce, [*command, "--channel", str(theirs.fileno())])
    theirs.close()
    order = _order(driver, ours, told) if driver is not None else None
    os.close(told)
    try:
        if order is not None and driver is not None:
            return _become(order, driver, ours, log)
        return 0
    finally:
        # Also where the order could not be carried out: nothing of a spare stays without one.
        ours.close()
        clear_remains(nonce, 0.0)
        log.unlink(missing_ok=True)


def _order(driver: int, channel: socket.socket, told: int) -> RunOrder | None:
    """Wait for the order; None when the supervisor has gone, or the driver."""
    line = b""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(channel, select.POLLIN)
    while True:
        for handle, _ in poll.poll():
            if handle == channel.fileno():
                said = channel.recv(len(READY))
                if not said:
                    say(f"the spare driver {driver} ended before it was needed")
                    return None
                os.write(told, said)
                continue
            part = os.read(0, 65_536)
            if not part:
                return None
            line += part
            if line.endswith(b"\n"):
                return TypeAdapter(RunOrder).validate_json(line)


def _become(order: RunOrder, driver: int, channel: socket.socket, log: Path) -> int:
    said_before = log.stat().st_size

    def begin(lock: int) -> int | None:
        say(f"driver {driver} had been waiting as a spare")
        try:
            handed = json.dumps([*order.command]).encode()
            socket.send_fds(channel, [handed], [lock, 1])
        except OSError as error:
            # It died this moment: its stream starts as if there had been none.
            say(f"it has ended ({error.strerror}): another one is started")
            os.kill(driver, signal.SIGKILL)
            return start(order.nonce, order.command)
        return driver

    return run(order, begin, lambda: _add_last_words(log, said_before))


def _add_last_words(log: Path, since: int) -> None:
    with log.open("rb") as stream:
        stream.seek(max(since, log.stat().st_size - _LAST_WORDS))
        os.write(1, stream.read())
