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

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil

from headgate.settings import Settings
from headgate.streams import processes
from headgate.streams.journal import Journal
from headgate.streams.model import Desired, Phase
from headgate.streams.record import StreamRecord
from headgate.streams.spare_process import SpareProcess, loaded_from, start_spare, sweep
from headgate.streams.spare_runner import FAILED_LOG

__all__ = ["NO_ROOM", "SpareCommand", "Spares", "memory_wanted", "room_left", "spare_command"]

SpareCommand = Callable[[str], Sequence[str]]  # from the memory of the JVM
# Beside the heap: what a JVM and a Python process take at rest, and something left for everybody else.
_BESIDE_HEAP = 1536 * 1024**2
_SHORT = 512 * 1024**2  # with less than this free, a driver that does nothing is one too many
_RETRY_SECONDS, _DOUBLINGS = 10.0, 9  # 10 s, 20 s, … up to an hour and a half
_ROOM_SECONDS = 60.0
NO_ROOM = "of memory are free"  # in the state that says that there is no room for one
_CODE_SECONDS = 30.0  # between two looks at whether the code has changed
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
        most, used, detail = (
            (_CGROUP / name).read_text(encoding="ascii")
            for name in ("memory.max", "memory.current", "memory.stat")
        )
    except OSError:
        return free
    if not most.strip().isdigit():
        return free
    # Files that nobody looks at go when somebody needs the room.
    counted = dict(line.split() for line in detail.splitlines())
    return min(free, int(most) - int(used) + int(counted.get("inactive_file", 0)))


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
        self._spare: SpareProcess | None = None
        self._offered = False
        self._failures = 0
        self._not_before = 0.0
        self._code_seen = 0.0
        self.state = "none: no stream has run for long enough" if self._command else "none: switched off"

    def tend(self, memory: str | None) -> None:
        """Make one if there is none and it is the time; `memory` is what `memory_wanted` says. Raises OSError
        where none can be started."""
        if self._command is None:
            return
        self._look()
        if self._spare is not None:
            self._doubt(memory)
        if self._spare is not None or memory is None or self._monotonic() < self._not_before:
            return
        needed, free = _bytes(memory) + _BESIDE_HEAP, self._room()
        if free < needed:
            self._not_before = self._monotonic() + _ROOM_SECONDS
            self._say(f"none: {_mib(free)} {NO_ROOM}, {_mib(needed)} are needed")
            return
        try:
            self._spare = start_spare(self._settings, self._command(memory), memory)
        except OSError:
            self._not_before = self._monotonic() + _ROOM_SECONDS
            raise
        self._say("warming")

    def offer(self, memory: str | None) -> str | None:
        """The nonce of a ready spare for a driver with this memory. One that is still being warmed ends: the
        driver that starts now needs the processors more; `settle` is to follow."""
        self._look()
        spare = self._spare
        if spare is None or memory is None:
            return None
        if not spare.ready:
            self.give_up("a stream starts before it is ready")
        elif spare.loaded != loaded_from(self._settings):
            self.give_up("the code has changed since it was started")
        elif _bytes(spare.memory) == _bytes(memory):
            self._offered = True
            return spare.nonce
        elif self._room() < _bytes(memory) + _BESIDE_HEAP:
            self.give_up(f"a stream with {memory} of memory needs the room")
        return None

    def hand_over(self, launch: processes.Launch) -> subprocess.Popen[bytes] | None:
        """Tell the spare that was planned with whose driver it is: its runner, or None where it is gone."""
        spare = self._spare
        if spare is None or spare.nonce != launch.incarnation.nonce:
            return None
        self._spare, self._offered = None, False
        if not spare.give(launch):
            self._say("none: it ended before it was needed")
            return None
        self._failures = 0
        self._say(f"none: it became the driver of {launch.incarnation.stream}")
        return spare.runner

    def settle(self) -> None:
        """After what followed an offer: a spare whose nonce may be written down for a stream, and that was
        not told so, is nobody's any more."""
        if self._offered:
            self.give_up("its stream did not start")

    def give_up(self, why: str) -> None:
        """End it, if there is one, and see it gone."""
        spare, self._spare, self._offered = self._spare, None, False
        if spare is not None:
            self._say(f"none: {why}")
            spare.end()

    def sweep(self) -> None:
        """End what another supervisor left."""
        self.give_up("the lease is new")
        sweep(self._settings)

    def _doubt(self, memory: str | None) -> None:
        """Whether the spare that is there is still one to keep."""
        spare, now = self._spare, self._monotonic()
        assert spare is not None
        if memory is not None and _bytes(memory) != _bytes(spare.memory):
            self.give_up(f"streams ask for {memory} of memory, it has {spare.memory}")
        elif (free := self._room()) < _SHORT:
            self._not_before = now + _ROOM_SECONDS
            self.give_up(f"{_mib(free)} {NO_ROOM}")
        elif now - self._code_seen >= _CODE_SECONDS:
            self._code_seen = now
            if spare.loaded != loaded_from(self._settings):
                self.give_up("the code has changed since it was started")

    def _look(self) -> None:
        spare = self._spare
        if spare is None:
            return
        if not spare.alive:
            self._not_before = self._monotonic() + _RETRY_SECONDS * 2 ** min(self._failures, _DOUBLINGS)
            self._failures += 1
            self.give_up(f"it ended by itself, see {spare.log.with_name(FAILED_LOG)}")
        elif not spare.ready and spare.look():
            self._say("ready")

    def _say(self, state: str) -> None:
        if state != self.state:
            self._journal.write("spare driver", state=state)
        self.state = state


def _bytes(memory: str) -> int:
    return int(memory[:-1]) * _UNITS[memory[-1]] if memory else 0


def _mib(size: int) -> str:
    return f"{size // 1024**2} MiB"
