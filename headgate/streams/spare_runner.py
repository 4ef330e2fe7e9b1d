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
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from headgate.streams.driver_run import clear_remains, redirect, run, say, start
from headgate.streams.handover import RunOrder

__all__ = ["FAILED_LOG", "READY", "WORK", "clear_files", "run_spare"]

READY = b"ready\n"
FAILED_LOG = "failed.log"  # the newest of those that could not be warmed, or died
WORK = ".work"  # beside the log, for what it runs to get warm
_LAST_WORDS = 65_536


def run_spare(nonce: str, log: Path, command: Sequence[str]) -> int:
    """Warm a driver and wait for the order; 0 also when none came, and 1 when the driver ended before."""
    told = os.dup(1)
    redirect(log)
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    folder = ["--work", str(log.with_suffix(WORK))]
    driver = start(nonce, [*command, *folder, "--channel", str(theirs.fileno())])
    theirs.close()
    if driver is None:
        return 1
    order, died = _order(ours, told)
    # From here on nobody may think that an order was heard which was not.
    os.close(told)
    os.close(0)
    try:
        if order is not None:
            return _become(order, driver, ours, log)
        if died:
            say(f"the spare driver {driver} ended before it was needed")
            shutil.copyfile(log, log.with_name(FAILED_LOG))
        return 1 if died else 0
    finally:
        # Also where the order could not be carried out: nothing of a spare stays without one.
        ours.close()
        clear_remains(nonce, 0.0)
        clear_files(log)


def clear_files(log: Path) -> None:
    """What a spare leaves on the disk: its log, and the tables of the streams that warmed it."""
    log.unlink(missing_ok=True)
    shutil.rmtree(log.with_suffix(WORK), ignore_errors=True)


def _order(channel: socket.socket, told: int) -> tuple[RunOrder | None, bool]:
    """Wait for the order, or until the supervisor has gone, or the driver, which is the second answer."""
    line, died = b"", False
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(channel, select.POLLIN)
    while True:
        ready = [handle for handle, _ in poll.poll(0 if died else None)]
        if 0 in ready:
            part = os.read(0, 65_536)
            line += part
            if not part or line.endswith(b"\n"):
                return TypeAdapter(RunOrder).validate_json(line) if part else None, died
        elif channel.fileno() in ready and not died:
            said = channel.recv(len(READY))
            died = not said
            os.write(told, said)
        elif died:
            return None, True  # and no order was on its way


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
    try:
        with log.open("rb") as stream:
            stream.seek(max(since, log.stat().st_size - _LAST_WORDS))
            os.write(1, stream.read())
    except OSError as error:
        say(f"what the JVM said below Java cannot be added: {error}")
