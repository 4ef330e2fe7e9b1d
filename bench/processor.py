"""Processor time by kind of thread, and memory: what a side of a comparison takes, and for what.

Every second all processes that the benchmark has started meanwhile are looked at, so that no side needs a
hook and all pay the same small price.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

__all__ = ["Sample", "Watch", "between", "kind_of", "looking", "parse_stat", "resident_of", "watching"]

_EVERY = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")
# As the kernel shows them, cut after fifteen letters. The first that fits.
_KINDS = (
    ("C1 Compiler", "JVM compilers"),
    ("C2 Compiler", "JVM compilers"),
    ("GC Thread", "JVM collector"),
    ("G1 ", "JVM collector"),
    ("VM Thread", "JVM collector"),
    ("Executor task", "Spark's tasks"),
    ("stream executio", "Spark's streaming queries"),
    ("Source", "Flink's sources and what is chained to them"),
    ("Kafka Source", "Flink's sources and what is chained to them"),
    ("LocalWindow", "Flink's sources and what is chained to them"),
    ("GlobalWindow", "Flink's windows"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Processor seconds so far, by kind, at a moment."""

    at: float
    seconds: Mapping[str, float]


@dataclass(slots=True)
class Watch:
    """What has been seen so far; a thread that has ended counts with what it was last seen with."""

    samples: list[Sample] = field(default_factory=list)
    resident: int = 0  # bytes of all of them together, when that was most
    _last: dict[tuple[int, int], tuple[str, float]] = field(default_factory=dict)

    def look(self, before: frozenset[int]) -> None:
        resident = 0
        for process in psutil.Process().children(recursive=True):
            if process.pid not in before:
                self._last.update(_threads(process))
                resident += sum(resident_of(process))
        self.resident = max(self.resident, resident)
        seconds: dict[str, float] = defaultdict(float)
        for kind, spent in self._last.values():
            seconds[kind] += spent
        self.samples.append(Sample(time.time(), dict(seconds)))


@contextmanager
def watching() -> Iterator[Watch]:
    """Watch what is started within the block."""
    before = frozenset(child.pid for child in psutil.Process().children(recursive=True))
    watch = Watch()
    with looking(lambda: watch.look(before), _EVERY):
        yield watch


@contextmanager
def looking(look: Callable[[], None], seconds: float) -> Iterator[None]:
    """Look every so many seconds on a thread of its own, for as long as the block takes."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(seconds):
            look()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def between(samples: Sequence[Sample], begun: float, ended: float) -> dict[str, float]:
    """Seconds by kind that were spent between two moments."""
    first, last = _at(samples, begun), _at(samples, ended)
    spent = {kind: seconds - first.get(kind, 0.0) for kind, seconds in last.items()}
    return {kind: seconds for kind, seconds in spent.items() if seconds > 0}


def kind_of(process: str, thread: str) -> str:
    if not process.startswith("java"):
        return "Python"
    return next((kind for begins, kind in _KINDS if thread.startswith(begins)), "JVM, other threads")


def parse_stat(text: str) -> tuple[str, float]:
    """Name and processor seconds in a thread's /proc/…/stat; a name may hold spaces and parentheses."""
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    return name, (int(fields[11]) + int(fields[12])) / _TICKS


def _threads(process: psutil.Process) -> dict[tuple[int, int], tuple[str, float]]:
    found = {}
    try:
        name = process.name()
        for stat in Path(f"/proc/{process.pid}/task").glob("*/stat"):
            thread, seconds = parse_stat(stat.read_text(encoding="utf-8", errors="replace"))
            found[process.pid, int(stat.parent.name)] = (kind_of(name, thread), seconds)
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        pass  # it ended while it was looked at: what was seen before stays
    return found


def resident_of(process: psutil.Process) -> tuple[int, int]:
    """Bytes of a JVM, and of Python: workers are forks of one process, so each has its share of their pages.
    What a JVM forks has all of its pages, and its name, until it is another program: it is left out."""
    try:
        name, parent = process.name(), process.parent()
        if name.startswith("java"):
            forked = parent is not None and parent.name().startswith("java")
            return (0 if forked else int(process.memory_info().rss)), 0
        return 0, int(process.memory_full_info().pss) if name.startswith("python") else 0
    except psutil.Error:
        return 0, 0  # it has ended meanwhile


def _at(samples: Sequence[Sample], moment: float) -> Mapping[str, float]:
    return next((each.seconds for each in reversed(samples) if each.at <= moment), {})
