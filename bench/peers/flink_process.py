"""A PyFlink job in a process of its own, watched through the offsets that its checkpoints commit."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors

from bench.dataset import PARTITIONS
from bench.peers.environment import FlinkHome, find_flink
from bench.place import CHECKOUT, Place
from bench.services import end
from headgate.local.java import find_java
from headgate.topics.kafka import admin_client

__all__ = ["Finished", "run_flink"]

_DEADLINE = 3600.0
_EVERY = 0.2
_NO_COORDINATOR_YET = (
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.NotCoordinatorError,
)


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that has read its topic to the end: its files, and (moment, records committed) as seen."""

    table: Path
    sights: tuple[tuple[float, int], ...]


def run_flink(place: Place, module: str, topic: str, *, interval_ms: int, memory: str) -> Finished:
    """Run `bench.peers.flink_records` or `bench.peers.flink_windows` over a topic."""
    home, group = find_flink(), f"bench-{uuid.uuid4().hex[:8]}"
    table, checkpoint = place.plain / "table", place.plain / "checkpoint"
    command = [str(home.python), "-m", module, "--brokers", place.brokers, "--topic", topic]
    command += ["--group", group, "--table", str(table), "--checkpoint", str(checkpoint)]
    command += ["--jars", ";".join(f"file://{path}" for path in home.connectors)]
    command += ["--interval", str(interval_ms)]
    log = place.root / "log" / f"{module}-{topic}.log"
    log.parent.mkdir(exist_ok=True)
    with _process(command, log, _environ(home, log.parent, memory)) as running:
        sights = _watch(place, running, topic, group, log)
    return Finished(table, tuple(sights))


def _environ(home: FlinkHome, logs: Path, memory: str) -> dict[str, str]:
    """Flink's own logs go beside ours; its JVM has the heap that the others' drivers have."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLINK_", "HADOOP_"))}
    return {
        **kept,
        "JAVA_HOME": str(find_java().home),
        "JVM_ARGS": f"-Xmx{memory}",
        "HADOOP_CLASSPATH": os.pathsep.join(map(str, home.hadoop)),
        "FLINK_LOG_DIR": str(logs),
        "TZ": "UTC",
    }


@contextmanager
def _process(command: list[str], log: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Its JVM ends with it: Flink's gateway reads a pipe from the Python process."""
    with log.open("wb") as stream:
        running = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            env=environ,
        )
        try:
            yield running
        finally:
            end(running)


def _watch(
    place: Place, running: subprocess.Popen[bytes], topic: str, group: str, log: Path
) -> list[tuple[float, int]]:
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    sights = []
    deadline = time.monotonic() + _DEADLINE
    with admin_client(place.settings("services")) as admin:
        while (code := running.poll()) is None:
            if time.monotonic() > deadline:
                raise SystemExit(f"error: not within {_DEADLINE:.0f} s: the job's end, see {log}")
            sights.append((time.time(), _committed(admin, group, partitions)))
            time.sleep(_EVERY)
    if code != 0:
        raise SystemExit(f"error: the PyFlink job ended with {code}, see {log}")
    return sights


def _committed(admin: KafkaAdminClient, group: str, partitions: list[TopicPartition]) -> int:
    """Records up to the committed offsets of a group; none while the broker still makes their topic."""
    try:
        found = admin.list_group_offsets({group: partitions})[group]
    except _NO_COORDINATOR_YET:
        return 0
    return sum(max(0, each.offset) for each in found.values())
