"""What the live measurements share: a fresh topic, a paced producer beside the driver."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from bench.loader import make_topic
from bench.place import CHECKOUT, Place

__all__ = ["TOPIC", "fresh_topic", "paced"]

TOPIC = "bench_live"


def fresh_topic(place: Place) -> None:
    """Nothing of an earlier measurement is left: its topic, its state, what it has published."""
    place.clear_run()
    with Redis.from_url(place.settings().redis.url) as client:
        client.flushdb()  # a later epoch's rows would fence the first epoch of this one
    make_topic(place.settings("services"), TOPIC)


@contextmanager
def paced(place: Place, rate: int, seconds: float) -> Iterator[Path]:
    """Send at `rate` until the block ends, `seconds` at most; the file with the times is there afterwards."""
    out = place.root / "run" / "sent.npy"
    command = [sys.executable, "-m", "bench.pace", "--brokers", place.brokers, "--topic", TOPIC]
    command += ["--rate", str(rate), "--seconds", str(seconds), "--out", str(out)]
    running = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.DEVNULL)
    try:
        yield out
    finally:
        running.send_signal(signal.SIGTERM)
        if running.wait(60) != 0:
            raise SystemExit(f"error: the paced producer ended with {running.returncode}")
