"""One run of a driver, by its runner: started, noted down, waited for, and cleared up after."""

from __future__ import annotations

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

__all__ = ["DEAF_TO", "clear_remains", "redirect", "run", "say", "start"]

# What a runner does not heed, and the driver that it starts does.
DEAF_TO = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
# A JVM whose Python ended in order deletes its temporary files before it goes.
_GRACE_SECONDS = 5.0
_ALREADY_RUN = 73
_LOCKED = 75
# The runner before may be reaping what its driver left; longer than that, a driver lives.
_LOCK_SECONDS = 10.0
_CANNOT_RUN = 127


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
            setsigdef=[*DEAF_TO, signal.SIGPIPE],
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
