"""A small process around one driver: it outlives the supervisor and writes down how the driver ended.

    python -m headgate.streams.runner --stream S --epoch E --generation N --contract HASH --nonce X
        --dir <state>/streams/S --log <file> -- python -m spark …
    python -m headgate.streams.runner --spare --nonce X --log <file> -- python -m spark.spare …

It is the leader of a session of its own and deaf to SIGHUP, SIGINT and SIGTERM: a driver is stopped by
a signal to the driver. The driver gets a process group of its own and HEADGATE_NONCE. What the driver
leaves behind (its JVM, Python workers) is killed once the driver is gone, since it could still write.
Runner and driver hold a lock on the stream's folder: while it is held, no other driver starts there.
If this process is killed, the driver goes on; only its exit status is lost.

A spare is a driver that has been started and warmed for nobody yet (`headgate.streams.spare_runner`).
"""

from __future__ import annotations

import argparse
import ctypes
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from headgate.streams.driver_run import DEAF_TO, run, start
from headgate.streams.handover import RunOrder

__all__ = ["main"]

_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    for number in DEAF_TO:
        # A handler, unlike SIG_IGN, is not inherited by what is executed.
        signal.signal(number, _ignore)
    _adopt_orphans()
    if options.spare:
        from headgate.streams.spare_runner import run_spare

        return run_spare(options.nonce, Path(options.log), options.command)
    order = RunOrder(
        stream=options.stream,
        epoch=options.epoch,
        generation=options.generation,
        contract_hash=options.contract,
        nonce=options.nonce,
        folder=options.dir,
        log=options.log,
        command=tuple(options.command),
    )
    return run(order, lambda _: start(order.nonce, order.command))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="headgate.streams.runner")
    parser.add_argument("--spare", action="store_true")
    needed = not parser.parse_known_args(arguments)[0].spare
    parser.add_argument("--stream", required=needed)
    parser.add_argument("--epoch", type=int, required=needed)
    parser.add_argument("--generation", type=int, required=needed)
    parser.add_argument("--contract", required=needed)
    parser.add_argument("--dir", required=needed)
    parser.add_argument("--nonce", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def _ignore(_number: int, _frame: object) -> None:
    """Being asked to end is no reason to leave the driver alone."""


def _adopt_orphans() -> None:
    """Become the parent of what the driver leaves behind, so that it is reaped and does not linger."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
