"""The resident memory of one stream: the driver's Python, its JVM, Python workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psutil

from bench.latency import RATE
from bench.live import fresh_topic, paced
from bench.place import Place
from bench.processor import resident_of
from bench.stream import Driver, apply, driver

__all__ = ["measure"]

_IDLE_SECONDS = 15


def measure(place: Place, seconds: int) -> Iterator[dict[str, Any]]:
    fresh_topic(place)
    frozen = apply(place, "bench-live", {})
    with driver(place, frozen) as running:
        running.wait_running()
        yield _result("idle", "idle, memory 1g", _greatest(running, _IDLE_SECONDS))
        with paced(place, RATE, seconds + 30):
            yield _result("busy", f"at {RATE:,} records/s, memory 1g", _greatest(running, seconds))


def _greatest(running: Driver, seconds: float) -> dict[str, int]:
    """The sample whose sum is greatest, once a second."""
    greatest = {"driver": 0, "jvm": 0, "workers": 0}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        running.refuse_ended()
        now = _sample(running.process.pid)
        if sum(now.values()) > sum(greatest.values()):
            greatest = now
        time.sleep(1.0)
    return greatest


def _sample(pid: int) -> dict[str, int]:
    own = psutil.Process(pid)
    found = [resident_of(child) for child in own.children(recursive=True)]
    jvms, workers = (sum(each[kind] for each in found) for kind in (0, 1))
    return {"driver": own.memory_info().rss, "jvm": jvms, "workers": workers}


def _result(job: str, title: str, sizes: dict[str, int]) -> dict[str, Any]:
    print(f"memory {job} {sum(sizes.values()) / 2**20:,.0f} MiB", flush=True)
    return {"job": job, "title": title, **sizes}
