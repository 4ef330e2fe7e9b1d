"""What a result was measured on."""

from __future__ import annotations

import os
import platform
import timeit
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from bench.place import CHECKOUT
from headgate.local.java import find_java

__all__ = ["loop_seconds", "machine", "versions"]


def machine() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": psutil.virtual_memory().total / 2**30,
        "system": f"{platform.system()} {platform.release()}",
        "filesystem": _filesystem(CHECKOUT),
        "loop_seconds": loop_seconds(),
    }


def loop_seconds() -> float:
    """How long one core takes for ten million additions in CPython: absolute times of a machine whose
    cores are shared with others, or slow, are read against it. The best of three."""
    return min(timeit.repeat("x += 1", "x = 0", repeat=3, number=10_000_000))


def versions() -> dict[str, str]:
    jars = [path.stem for path in (CHECKOUT / "jars" / "kafka").glob("kafka_2.13-*.jar")]
    return {
        "headgate": version("headgate"),
        "Python": platform.python_version(),
        "Java": str(find_java().major),
        "Spark": version("pyspark"),
        "Delta": version("delta-spark"),
        "deltalake": version("deltalake"),
        "Kafka": jars[0].rpartition("-")[2] if jars else "none",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(path: Path) -> str:
    """The type of the file system that holds the benchmark's data."""
    mounts = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown file system"
