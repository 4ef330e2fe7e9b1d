"""A producer at a fixed rate, as a process of its own: `python -m bench.pace`.

It writes down when it gave each record to the client, and how far it ever was behind its schedule.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import numpy as np
from kafka import KafkaProducer

from bench.dataset import PARTITIONS

__all__ = ["Sent", "read_sent"]

_TICK = 0.01


class Sent:
    """Record number n went to partition n modulo 4 at `at[n]` (Unix seconds)."""

    def __init__(self, file: Path) -> None:
        self.at = np.load(file)
        self.behind = float(json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["behind"])


def read_sent(file: Path) -> Sent:
    return Sent(file)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    stop = _Stop()
    producer = KafkaProducer(
        bootstrap_servers=options.brokers,
        acks="all",
        compression_type="lz4",
        linger_ms=5,
        batch_size=64 * 1024,
    )
    sent: list[float] = []
    behind = 0.0
    begun = time.time()
    while (now := time.time()) < begun + options.seconds and not stop.asked:
        due = int((now - begun) * options.rate)
        for number in range(len(sent), due):
            producer.send(options.topic, _record(number, now), partition=number % PARTITIONS)
        behind = max(behind, (due - len(sent)) / options.rate - _TICK)
        sent.extend([now] * (due - len(sent)))
        time.sleep(max(0.0, _TICK - (time.time() - now)))
    producer.flush()
    producer.close()
    np.save(options.out, np.array(sent))
    options.out.with_suffix(".json").write_text(json.dumps({"behind": behind}), encoding="utf-8")
    return 0


class _Stop:
    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


def _record(number: int, now: float) -> bytes:
    moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    value = number * 7919 % 90_000 / 1000
    return f'{{"seq":{number},"device":"d-{number % 200:03}","ts":"{moment}","value":{value:.3f}}}'.encode()


if __name__ == "__main__":
    sys.exit(main())
