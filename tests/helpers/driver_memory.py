"""What a driver's processes hold in memory, looked at five times a second."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
from driver_process import Driver

__all__ = ["Peak", "watched"]

_EVERY = 0.2


@dataclass
class Peak:
    """The most bytes at one moment. Of its Python workers, all together, what is theirs alone: they are forks
    of one process, and share its pages. What the JVM forks has all of its pages until it is something else.
    """

    driver: int = 0
    jvm: int = 0
    workers: int = 0
    looks: int = field(default=0, repr=False)

    def look(self, driver: Driver) -> None:
        now = {"driver": 0, "jvm": 0, "workers": 0}
        try:
            own = psutil.Process(driver.process.pid)
            now["driver"] = own.memory_info().rss
            children = own.children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for child in children:
            try:
                if child.name().startswith("java"):
                    now["jvm"] = max(now["jvm"], child.memory_info().rss)
                elif child.name().startswith("python"):
                    now["workers"] += child.memory_full_info().uss
            except psutil.NoSuchProcess:
                continue
        for kind, size in now.items():
            setattr(self, kind, max(getattr(self, kind), size))
        self.looks += 1


@contextmanager
def watched(driver: Driver) -> Iterator[Peak]:
    peak, done = Peak(), threading.Event()

    def run() -> None:
        while not done.wait(_EVERY):
            peak.look(driver)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
