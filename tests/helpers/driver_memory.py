"""What a driver's JVM and its Python workers hold in memory, looked at five times a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
from driver_process import Driver

from bench.processor import looking, resident_of

__all__ = ["Peak", "watched"]

_EVERY = 0.2


@dataclass
class Peak:
    """The most bytes at one moment, of all workers together."""

    jvm: int = 0
    workers: int = 0

    def look(self, driver: Driver) -> None:
        try:
            children = psutil.Process(driver.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        found = [resident_of(child) for child in children]
        self.jvm = max(self.jvm, sum(jvm for jvm, _ in found))
        self.workers = max(self.workers, sum(workers for _, workers in found))


@contextmanager
def watched(driver: Driver) -> Iterator[Peak]:
    peak = Peak()
    with looking(lambda: peak.look(driver), _EVERY):
        yield peak
