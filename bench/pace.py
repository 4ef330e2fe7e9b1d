"""A producer at a fixed rate, as a process of its own: `python -m bench.pace`.

It writes down when each record was due, and how far it ever was behind that: what a slow broker holds up
waits no shorter. A hundred times a second it sends one batch to each partition, which numpy makes whole: a
client that makes one record at a time would take one of two cores at 50,000 a second, and what is measured
is the stream.
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
import numpy.typing as npt
from kafka.net.compat import KafkaNetClient

from bench.batches import encode_batch
from bench.dataset import DEVICES, FIRST_SEQ, PARTITIONS
from bench.forms import Bytes, Ints, digits, row
from bench.loader import produce_request, refuse_errors

__all__ = ["Sent", "due_moments", "read_sent", "records"]

_TICK = 0.01
_MOST = PARTITIONS * 8192  # what one batch of each partition can hold


class Sent:
    """Record number n was due at `at[n]` (Unix seconds), for partition n modulo 4, as `seq` FIRST_SEQ + n."""

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
    client = KafkaNetClient(bootstrap_servers=options.brokers)
    client.get_broker_version()
    (node,) = [broker.node_id for broker in client.cluster.brokers()]
    sent, behind = 0, 0.0
    begun = time.time()
    while (now := time.time()) < begun + options.seconds and not stop.asked:
        due = int((now - begun) * options.rate)
        behind = max(behind, (due - sent) / options.rate - _TICK)
        until = min(due, sent + _MOST)
        if until > sent:
            batches = _batches(np.arange(sent, until, dtype=np.int64), now)
            answer = client.send_and_receive(node, produce_request(options.topic, batches, acks=-1))
            refuse_errors(answer)
        sent = until
        time.sleep(max(0.0, _TICK - (time.time() - now)))
    client.close()
    np.save(options.out, due_moments(begun, options.rate, sent))
    options.out.with_suffix(".json").write_text(json.dumps({"behind": behind}), encoding="utf-8")
    return 0


class _Stop:
    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


def due_moments(begun: float, rate: int, count: int) -> npt.NDArray[np.float64]:
    """When each record was to be sent."""
    return begun + (np.arange(count, dtype=np.float64) + 1) / rate


def _batches(number: Ints, now: float) -> dict[int, bytes]:
    """By partition; one that has no record is left out."""
    parts = {part: number[number % PARTITIONS == part] for part in range(PARTITIONS)}
    return {
        part: encode_batch(*records(mine, now), timestamp_ms=int(now * 1000))
        for part, mine in parts.items()
        if len(mine)
    }


def records(number: Ints, now: float) -> tuple[Bytes, Bytes]:
    """Keys and values of records of one moment."""
    moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    count, device, value = len(number), digits(3, number % DEVICES), number * 7919 % 90_000 + 10_000
    values = row(
        count,
        *(b'{"seq":', digits(8, FIRST_SEQ + number), b',"device":"d-', device, f'","ts":"{moment}"'.encode()),
        *(b',"value":', digits(2, value // 1000), b".", digits(3, value % 1000), b"}"),
    )
    return row(count, b"d-", device), values


if __name__ == "__main__":
    sys.exit(main())
