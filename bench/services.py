"""The benchmark's own broker, Redis and supervisor: started when needed, ended by pid."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.place import CHECKOUT, Place
from bench.waiting import wait_for
from headgate.local.kafka import broker_of, format_storage
from headgate.local.ports import accepts, holder_of
from headgate.local.redis import prepare, redis_of

__all__ = ["broker_and_redis", "process"]

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


@contextmanager
def process(
    command: Sequence[str], log: Path, port: int, environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a service until the block ends; it is ready when its port takes connections."""
    holder = holder_of(port)
    if holder is not None:
        raise SystemExit(f"error: {holder}; end it, or remove var/bench to choose other ports")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        running = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            env=environ,
        )
    try:
        wait_for(lambda: _ready(running, port, log), _START_SECONDS, f"a service on port {port}, see {log}")
        yield running
    finally:
        end(running)


def end(running: subprocess.Popen[bytes]) -> None:
    if running.poll() is None:
        running.terminate()
        try:
            running.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
    running.wait()


def _ready(running: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    if running.poll() is not None:
        raise SystemExit(f"error: a service ended with {running.returncode}, see {log}")
    return accepts("127.0.0.1", port)


@contextmanager
def broker_and_redis(place: Place) -> Iterator[None]:
    """The embedded broker and the embedded Redis, as `headgate up` runs them."""
    settings = place.settings("services")
    environ = place.environ("services")
    broker, redis = broker_of(settings), redis_of(settings)
    format_storage(broker)
    prepare(redis)
    logs = settings.state / "log"
    with (
        process(broker.command(), logs / "kafka.log", broker.port, environ),
        process(redis.command(), logs / "redis.log", redis.port, environ),
    ):
        # A broker that took its port is not yet one that answers about topics.
        time.sleep(2.0)
        yield
