"""A real driver whose windows are computed from records that were read in Arrow: killed, started again, and
moved between the lanes on one checkpoint, with the counts that a recount of its input gives."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from driver_process import Stream, send
from two_lanes import frozen_of

from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import newest
from headgate.contract.frozen import FrozenContract, freeze
from headgate.quality.audit import audit
from headgate.topics.apply import apply_plan
from headgate.topics.plan import make_plan

PARTITIONS = 2
SOURCE = {
    "topic": "set below",
    "partitions": PARTITIONS,
    "columns": [
        {"name": "at", "type": "timestamp", "required": True},
        {"name": "name", "type": "string", "required": True},
        {"name": "value", "type": "double"},
    ],
    "event_time": {"column": "at", "watermark": "20 seconds"},
    "rules": [{"name": "in_range", "expect": "value BETWEEN 0 AND 1000"}],
}
SQL = (
    "SELECT window.start AS start, name, count(*) AS readings, sum(value) AS total, "
    "stddev(value) AS deviation, min(value) AS lowest FROM a GROUP BY window(at, '10 seconds'), name"
)
TYPES = {
    "start": "timestamp",
    "name": "string",
    "readings": "long",
    "total": "double",
    "deviation": "double",
    "lowest": "double",
}
JOB = {"trigger": "500 milliseconds", "max_records_per_batch": 3_000, "cores": 1, "memory": "1g"}
BEGIN = datetime(2025, 10, 1, 12, tzinfo=UTC)
WATERMARK, WINDOW = timedelta(seconds=20), timedelta(seconds=10)


def contract(name: str, lane: str) -> FrozenContract:
    outputs = {
        "open": {"sql": SQL, "mode": "update", "key": ["start", "name"], "to": [{"delta": "open"}]},
        "closed": {"sql": SQL, "to": [{"delta": "closed"}]},
    }
    outputs = {output: {**spec, "lane": lane} for output, spec in outputs.items()}
    plain = frozen_of(
        {**SOURCE, "topic": f"{name}-in"}, outputs, {"open": TYPES, "closed": TYPES}, stateful=True
    )
    named = plain.contract.model_validate(
        {
            **plain.contract.model_dump(mode="json", exclude_defaults=True),
            "pipeline": name,
            "job": {**JOB, "lane": lane},
        }
    )
    topics = {"a": f"{name}-in"}
    return freeze(
        named, topics=topics, replication=1, outputs=plain.outputs, env="local", headgate_version="0"
    )


class Feed:
    """What was sent, and the windows that must come of it. A hundred records share a second, so that no batch
    is ahead of another partition by a window."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._sent = 0
        self.bad = 0
        self.windows: Counter[tuple[datetime, str]] = Counter()
        self.totals: Counter[tuple[datetime, str]] = Counter()
        self.newest = BEGIN

    def send(self, count: int) -> None:
        values = []
        for number in range(self._sent, self._sent + count):
            at = BEGIN + timedelta(seconds=number // 100)
            record: dict[str, Any] = {"at": f"{at:%Y-%m-%d %H:%M:%S}", "name": f"n{number % 3}"}
            record["value"] = number % 900
            if number % 53 == 0:
                record["value"] = -1 if number % 2 else "x"
                self.bad += 1
            else:
                if number % 41 == 0:
                    record["at"] = f"{at:%Y-%m-%dT%H:%M:%S}.1234567Z"  # good, and Spark's to say
                start = at - timedelta(seconds=at.second % 10)
                self.windows[start, record["name"]] += 1
                self.totals[start, record["name"]] += record["value"]
                self.newest = max(self.newest, at)
            values.append(json.dumps(record).encode())
        send(self._stream.settings, self._stream.frozen.topics["a"], values, partitions=PARTITIONS)
        self._sent += count

    def check(self) -> None:
        rows = {(row["start"], row["name"]): row for row in self._stream.rows("open")}
        assert len(rows) == len(self._stream.rows("open"))
        assert {key: row["readings"] for key, row in rows.items()} == self.windows
        assert {key: row["total"] for key, row in rows.items()} == self.totals
        total = self._stream.books().total
        assert (total.read, total.good, total.quarantined) == (self._sent, self._sent - self.bad, self.bad)

    def closed(self) -> bool:
        """Whether all windows that the watermark has passed are written, each once and whole."""
        end = self.newest - WATERMARK
        wanted = {key: count for key, count in self.windows.items() if key[0] + WINDOW <= end}
        rows = [((row["start"], row["name"]), row["readings"]) for row in self._stream.rows("closed")]
        assert len(dict(rows)) == len(rows), "a window is there twice"
        assert dict(rows).items() <= self.windows.items(), "a window is not whole"
        return wanted.items() <= dict(rows).items()


@pytest.fixture
def stream(service_environ: dict[str, str], broker: object, tmp_path: Path) -> Iterator[Stream]:
    environ = {
        **service_environ,
        "HEADGATE_ROOTS_STATE": str(tmp_path / "state"),
        "HEADGATE_SPARK_UI": "false",
    }
    made = Stream(environ, contract(f"windows-{os.getpid()}", "jvm"))
    apply_plan(made.settings, make_plan(made.settings, [made.frozen]), by="tests")
    try:
        yield made
    finally:
        made.end()


def settle(stream: Stream, feed: Feed) -> None:
    stream.until_drained()
    feed.check()
    found = audit(stream.settings, stream.frozen)
    assert (found.difference, found.quarantine_rows) == (0, feed.bad)
    stream.until(feed.closed, "every window that the watermark has passed is written")


def test_windows_are_exact_over_kills_and_both_lanes_on_one_checkpoint(stream):
    feed = Feed(stream)
    feed.send(7_000)
    stream.start()
    settle(stream, feed)
    assert stream.drivers[-1].stop() == 0

    # The other lane goes on with the state that the first has left, and nothing stands against it.
    arrow = contract(stream.pipeline, "arrow")
    plan = make_plan(stream.settings, [arrow])
    assert plan.refusals == ()
    apply_plan(stream.settings, plan, by="tests")
    lineage = stream.lineage
    before = newest(stream.query("open") / "commits")
    feed.send(15_000)
    stream.start(contract_hash=arrow.hash)
    stream.until(lambda: newest(stream.query("open") / "commits") != before, "a batch in the Arrow lane")
    time.sleep(0.2)
    stream.drivers[-1].kill()
    feed.send(3_000)
    stream.start(contract_hash=arrow.hash)
    settle(stream, feed)
    assert "records of output open are read in Arrow" in stream.drivers[-1].tail(2_000)
    for _ in range(10):  # on a machine that is busy enough the record query gives up waiting
        feed.send(3_000)
        settle(stream, feed)
        if "the tasks that screen are those of output" in stream.drivers[-1].tail(2_000):
            break
    else:
        raise AssertionError("the record query never took what the tasks of an output had judged")

    # Killed while one query judges for the other: notes are gone, books and quarantine are not.
    before = newest(stream.query(RECORDS) / "commits")
    feed.send(12_000)
    stream.until(lambda: newest(stream.query(RECORDS) / "commits") != before, "a batch of the record query")
    stream.drivers[-1].kill()
    stream.start(contract_hash=arrow.hash)
    settle(stream, feed)
    assert stream.drivers[-1].stop() == 0

    apply_plan(stream.settings, make_plan(stream.settings, [stream.frozen]), by="tests")
    feed.send(6_000)
    stream.start()
    settle(stream, feed)
    assert "read in Arrow" not in stream.drivers[-1].tail(2_000)
    assert stream.lineage == lineage
    assert stream.drivers[-1].stop() == 0
