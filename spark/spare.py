"""`python -m spark.spare`: a driver that waits, warm, until it is told whose it is.

It starts the JVM as a driver does and runs small streams of its own on it, so that classes are loaded and
compiled; then that session ends. The order comes with two open files, the lock on the stream's folder
and the stream's log, and from then on this is `python -m spark` with the order's arguments: it reads
its contract, claims its epoch and makes its session as any driver, in a JVM that is warm.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from headgate.contract.model import Job
from headgate.settings import Settings, load_settings
from headgate.streams.spare_runner import READY

__all__ = ["main"]

_MOST = 1024 * 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m spark.spare", description=__doc__)
    parser.add_argument("--channel", type=int, required=True, help="socket to the runner")
    parser.add_argument("--memory", required=True, help="of the JVM")
    parser.add_argument("--work", required=True, help="a folder for what it runs to get warm")
    arguments = parser.parse_args()
    settings, _ = load_settings()
    with socket.socket(fileno=arguments.channel) as channel:
        gateway = _warm(settings, arguments.memory, Path(arguments.work))
        channel.sendall(READY)
        if not _heard(channel, gateway.proc.pid):
            sys.stderr.write("the JVM of the spare driver has ended\n")
            return 1
        told, handles, _, _ = socket.recv_fds(channel, _MOST, 2)
    if not told:
        return 0
    _lock, log = handles  # the lock is held as long as this process lives
    _speak_to(log, gateway.jvm)
    from spark.__main__ import main as drive

    # The order is the command of a driver that would have been started: `python -m spark …`.
    return drive(json.loads(told)[3:])


def _heard(channel: socket.socket, jvm: int) -> bool:
    """Wait for the order. False when the JVM ended first: a driver without one would be one that failed."""
    handle = os.pidfd_open(jvm)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(handle, select.POLLIN)
    ready = {each for each, _ in poll.poll()}
    os.close(handle)
    return handle not in ready


def _warm(settings: Settings, memory: str, work: Path) -> Any:
    """The gateway of a JVM that has run what a driver runs. `work` is where, and is gone afterwards."""
    import spark.arrow_lane
    import spark.driver
    import spark.record
    import spark.window  # noqa: F401 - loaded now, so that no stream waits for it
    from spark.session import build_session
    from spark.warm import run_small_streams

    work.mkdir(parents=True)
    try:
        session = build_session(settings, Job(cores=2, memory=memory), "headgate spare")
        run_small_streams(session, work)
        gateway = session.sparkContext._gateway
        session.stop()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    gateway.jvm.java.lang.System.gc()
    return gateway


def _speak_to(log: int, jvm: Any) -> None:
    """Everything that Python and Java say goes to the stream's log from now on."""
    path = str(Path(f"/proc/self/fd/{log}").readlink())
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    stream = jvm.java.io.PrintStream(jvm.java.io.FileOutputStream(path, True), True)
    jvm.java.lang.System.setOut(stream)
    jvm.java.lang.System.setErr(stream)
    # Appenders keep the stream that they found when they were configured, and the level goes with them:
    # Spark sets it again only where it believes that it changes.
    configurator = jvm.org.apache.logging.log4j.core.config.Configurator
    configurator.reconfigure()
    configurator.setRootLevel(jvm.org.apache.logging.log4j.Level.WARN)


if __name__ == "__main__":
    sys.exit(main())
