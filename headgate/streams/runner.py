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
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from headgate.streams import proc
from headgate.streams.handover import (
    ExitNote,
    RunnerNote,
    RunOrder,
    claim,
    hold,
    write_exit,
    write_runner,
)

__all__ = ["clear_remains", "main", "redirect", "run", "say", "start"]

_PR_SET_CHILD_SUBREAPER = 36
# A JVM whose Python ended in order deletes its temporary files before it goes.
_GRACE_SECONDS = 5.0
_DEAF_TO = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_ALREADY_RUN = 73
_LOCKED = 75
# The runner before may be reaping what its driver left; longer than that, a driver lives.
_LOCK_SECONDS = 10.0
_CANNOT_RUN = 127


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    for number in _DEAF_TO:
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


def run(order: RunOrder, begin: Callable[[int], int | None], last_words: Callable[[], object] = int) -> int:
    """Bring one driver to its end. `begin` starts it under a lock and answers its process id."""
    folder = Path(order.folder)
    redirect(Path(order.log))
    if not claim(folder, order.epoch):
        say(f"epoch {order.epoch} of {order.stream} had a runner before")
        return _ALREADY_RUN
    lock = hold(folder, _LOCK_SECONDS)
    if lock is None:
        say(f"another driver of {order.stream} lives: its folder is locked")
        write_exit(folder, order.epoch, ExitNote(_LOCKED, None, time.time()))
        return _LOCKED
    os.set_inheritable(lock, True)
    say(f"epoch {order.epoch}, generation {order.generation}: {' '.join(order.command)}")
    driver = begin(lock)
    if driver is None:
        write_exit(folder, order.epoch, ExitNote(_CANNOT_RUN, None, time.time()))
        return _CANNOT_RUN
    try:
        write_runner(folder, _note(order, driver))
    except OSError:
        # Nobody could find it by its file: better no driver than one that is unaccounted for.
        os.kill(driver, signal.SIGKILL)
        raise
    ended = _wait(driver)
    _write_exit_patiently(folder, order.epoch, ended)
    last_words()
    clear_remains(order.nonce, 0.0 if ended.signal else _GRACE_SECONDS)
    return 0


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


def redirect(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)


def start(nonce: str, command: Sequence[str]) -> int | None:
    """The process id of a driver in a group of its own, with nothing to read; None if it cannot be run."""
    environment = {**os.environ, proc.NONCE: nonce}
    program = shutil.which(command[0]) or command[0]
    try:
        return os.posix_spawn(
            program,
            [*command],
            environment,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setpgroup=0,
            setsigdef=[*_DEAF_TO, signal.SIGPIPE],
        )
    except OSError as error:
        say(f"{program} cannot be run: {error}")
        return None


def _note(order: RunOrder, driver: int) -> RunnerNote:
    own = psutil.Process()
    child = psutil.Process(driver)  # not reaped yet, so the id is its own even if it has ended
    seen = proc.read(driver)
    return RunnerNote(
        stream=order.stream,
        epoch=order.epoch,
        generation=order.generation,
        contract_hash=order.contract_hash,
        nonce=order.nonce,
        runner_pid=own.pid,
        runner_start=own.create_time(),
        driver_pid=driver,
        driver_start=child.create_time(),
        driver_ticks=seen.ticks if seen else 0,
        boot_id=proc.boot_id(),
        runner_ticks=proc.start_ticks(own.pid) or 0,
    )


def _wait(driver: int) -> ExitNote:
    """Reap until the driver is among the dead."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == driver:
            code = os.waitstatus_to_exitcode(status)
            return ExitNote(code if code >= 0 else None, -code if code < 0 else None, time.time())


def _write_exit_patiently(folder: Path, epoch: int, note: ExitNote) -> None:
    """The disk may be full, which may be what the driver died of; it is worth a minute of trying."""
    for _ in range(60):
        try:
            write_exit(folder, epoch, note)
        except OSError as error:
            say(f"the exit status cannot be written: {error}")
            time.sleep(1.0)
        else:
            return


def clear_remains(nonce: str, grace: float) -> None:
    deadline = time.monotonic() + grace
    while remains := proc.marked(nonce):
        if time.monotonic() >= deadline:
            for process in remains:
                proc.kill(process.pid, process.ticks)
        _reap()
        time.sleep(0.05)
    _reap()


def _reap() -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def say(text: str) -> None:
    """One line into the driver's log."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stdout.write(f"{stamp} runner: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
