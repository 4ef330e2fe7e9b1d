"""One driver in reserve: started, its JVM warm, for whichever stream starts next.

Most of the time from a driver's start to its first batch is spent on loading and compiling what is the
same for every stream (`python -m bench start`). A spare has that behind it. It belongs to no stream and
touches nothing of any: until it is told whose driver it is, it has no contract, no checkpoint, no lock. It
lives on a pipe from the supervisor that leads, so none is left when that ends, and none is adopted.

It is made when every stream that is wanted has been running quietly for a while, so that warming it takes
no processor time from one that starts; a stream that starts before it is ready starts without it. It
has the driver's memory that most streams ask for: a JVM cannot change that later.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from headgate.settings import Settings
from headgate.streams import proc, processes
from headgate.streams.journal import Journal
from headgate.streams.launch import driver_environment
from headgate.streams.model import Desired, Phase
from headgate.streams.record import StreamRecord
from headgate.streams.spare_runner import READY

__all__ = ["SpareCommand", "Spares", "memory_wanted", "room_left", "spare_command"]

SpareCommand = Callable[[str], Sequence[str]]  # from the memory of the JVM
# Beside the heap: what a JVM and a Python process take at rest, and something left for everybody else.
_BESIDE_HEAP = 1536 * 1024**2
_RETRY_SECONDS, _RETRY_MOST = 10.0, 3600.0
_END_SECONDS = 5.0
_UNITS = {"m": 1024**2, "g": 1024**3}
_CGROUP = Path("/sys/fs/cgroup")


def spare_command(memory: str) -> list[str]:
    return [sys.executable, "-m", "spark.spare", "--memory", memory]


def memory_wanted(
    records: Iterable[StreamRecord],
    memory_of: Callable[[StreamRecord], str | None],
    *,
    quiet: float,
    now: float,
) -> str | None:
    """The memory that a spare should have, or None while it is no time to make one: before every stream
    that is wanted has run for `quiet` seconds. Ties go to the larger."""
    wanted = [record for record in records if record.desired is Desired.RUNNING]
    busy = {Phase.STARTING, Phase.STOPPING, Phase.BACKOFF}
    for record in wanted:
        fresh = record.phase is Phase.RUNNING and now - record.phase_since < quiet
        if record.phase in busy or record.superseded or fresh:
            return None
    running = Counter(memory_of(record) for record in wanted if record.phase is Phase.RUNNING)
    running.pop(None, None)
    if not running:
        return None
    return max(running, key=lambda memory: (running[memory], _bytes(memory or "")))


def room_left() -> int:
    """Bytes of memory that a new process may take: of the machine, or of the container if that is less."""
    free: int = psutil.virtual_memory().available
    try:
        most = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (_CGROUP / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return free
    return min(free, int(most) - int(used)) if most.isdigit() else free


@dataclass(slots=True)
class _Spare:
    nonce: str
    memory: str
    runner: subprocess.Popen[bytes]
    ready: bool = False

    @property
    def alive(self) -> bool:
        return self.runner.poll() is None


class Spares:
    """Keeps one spare. Used from the supervisor's loop alone."""

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        *,
        command: SpareCommand | None = spare_command,
        room: Callable[[], int] = room_left,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._journal = journal
        # Whoever joins a cluster takes its executors: there a spare would not be idle.
        here = settings.supervisor.spare_driver and settings.spark.master == "local"
        self._command = command if here else None
        self._room = room
        self._monotonic = monotonic
        self._folder = settings.state / "spares"
        self._spare: _Spare | None = None
        self._failures = 0
        self._not_before = 0.0
        self.state = "none: no stream has run for long enough" if self._command else "none: switched off"

    def tend(self, memory: str | None) -> None:
        """Make one if there is none and it is the time; `memory` is what `memory_wanted` says."""
        if self._command is None:
            return
        self._look()
        spare = self._spare
        if memory is None or (spare is not None and spare.memory == memory):
            return
        if spare is not None:
            self.give_up(f"streams ask for {memory} of memory, it has {spare.memory}")
        if self._monotonic() < self._not_before:
            return
        needed, free = _bytes(memory) + _BESIDE_HEAP, self._room()
        if free < needed:
            self._not_before = self._monotonic() + 6 * _RETRY_SECONDS
            self._say(f"none: {free // 1024**2} MiB of memory are free, {needed // 1024**2} are needed")
            return
        self._make(memory, self._command)

    def offer(self, memory: str | None) -> str | None:
        """The nonce of a ready spare for a driver with this memory. One that is still being warmed ends: the
        driver that starts now needs the processors more."""
        self._look()
        spare = self._spare
        if spare is None:
            return None
        if not spare.ready:
            self.give_up("a stream starts before it is ready")
            return None
        return spare.nonce if spare.memory == memory else None

    def hand_over(self, launch: processes.Launch) -> subprocess.Popen[bytes] | None:
        """Tell the spare that was planned with whose driver it is: its runner, or None where it is gone."""
        spare = self._spare
        if spare is None or spare.nonce != launch.incarnation.nonce:
            return None
        self._spare = None
        pipe, told = spare.runner.stdin, spare.runner.stdout
        assert pipe is not None and told is not None, "its runner was started with pipes"
        try:
            with pipe, told:
                pipe.write(json.dumps(asdict(processes.order_of(launch))).encode() + b"\n")
                pipe.flush()
        except BrokenPipeError:
            self._say("none: it ended before it was needed")
            return None
        self._say(f"none: it became the driver of {launch.incarnation.stream}")
        return spare.runner

    def give_up(self, why: str) -> None:
        """End it, if there is one, and see it gone."""
        spare, self._spare = self._spare, None
        if spare is None:
            return
        assert spare.runner.stdin is not None and spare.runner.stdout is not None
        spare.runner.stdin.close()
        spare.runner.stdout.close()
        deadline = self._monotonic() + _END_SECONDS
        while processes.kill_all(spare.nonce, runners=True) and self._monotonic() < deadline:
            spare.runner.poll()
            time.sleep(0.02)
        spare.runner.poll()
        self._log(spare.nonce).unlink(missing_ok=True)
        self._say(f"none: {why}")

    def _log(self, nonce: str) -> Path:
        return self._folder / f"{nonce}.log"

    def _make(self, memory: str, command: SpareCommand) -> None:
        nonce = f"{processes.nonce_prefix(self._folder)}{secrets.token_hex(8)}"
        self._folder.mkdir(parents=True, exist_ok=True)
        arguments = ["--spare", "--nonce", nonce, "--log", str(self._log(nonce)), "--", *command(memory)]
        runner = subprocess.Popen(
            [sys.executable, "-m", proc.RUNNER_MODULE, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._settings.home,
            env=driver_environment(self._settings),
            start_new_session=True,
        )
        assert runner.stdout is not None
        os.set_blocking(runner.stdout.fileno(), False)
        self._spare = _Spare(nonce, memory, runner)
        self._say("warming")

    def _look(self) -> None:
        spare = self._spare
        if spare is None:
            return
        if not spare.alive:
            self._failures += 1
            pause = min(_RETRY_SECONDS * 2 ** (self._failures - 1), _RETRY_MOST)
            self._not_before = self._monotonic() + pause
            self.give_up(f"it ended by itself with exit code {spare.runner.returncode}")
        elif not spare.ready and spare.runner.stdout is not None and spare.runner.stdout.read() == READY:
            spare.ready = True
            self._failures = 0
            self._say("ready")

    def _say(self, state: str) -> None:
        if state != self.state:
            self._journal.write("spare driver", state=state)
        self.state = state


def _bytes(memory: str) -> int:
    return int(memory[:-1]) * _UNITS[memory[-1]] if memory else 0
