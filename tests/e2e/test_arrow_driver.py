"""A real driver in the Arrow lane: killed, started again, and changed to the other lane and back."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from driver_process import Stream, send
from two_lanes import frozen_of

from headgate.checkpoints.layout import RECORDS, table_path
from headgate.checkpoints.logs import newest
from headgate.contract.frozen import FrozenContract, freeze
from headgate.topics.apply import apply_plan
from headgate.topics.plan import make_plan

PARTITIONS = 2
SOURCE = {
    "topic": "set below",
    "partitions": PARTITIONS,
    "columns": [
        {"name": "id", "type": "long", "required": True},
        {"name": "at", "type": "timestamp"},
        {"name": "value", "type": "double"},
    ],
    "event_time": {"column": "at", "max_future": "10 minutes"},
    "rules": [{"name": "in_range", "expect": "value BETWEEN 0 AND 1000"}],
}
TYPES = {"rows": {"id": "long", "at": "timestamp", "value": "double", "part": "int", "place": "long"}}
JOB = {"trigger": "500 milliseconds", "max_records_per_batch": 8_000, "cores": 1, "memory": "1g"}


def contract(name: str, lane: str) -> FrozenContract:
    outputs = {
        "rows": {
            "sql": "SELECT id, at, value, _partition AS part, _offset AS place FROM a",
            "to": [{"delta": "rows"}],
            "lane": lane,
        }
    }
    plain = frozen_of({**SOURCE, "topic": f"{name}-in"}, outputs, TYPES)
    named = plain.contract.model_validate(
        {**plain.contract.model_dump(mode="json", exclude_defaults=True), "pipeline": name, "job": JOB}
    )
    return freeze(
        named,
        topics={"a": f"{name}-in"},
        replication=1,
        outputs=plain.outputs,
        env="local",
        headgate_version="0",
    )


class Feed:
    """What was sent, and what must come of it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.good: list[int] = []
        self.bad: list[bytes] = []

    def send(self, count: int, bad_every: int) -> None:
        values = []
        for _ in range(count):
            number = len(self.good) + len(self.bad)
            record: dict[str, Any] = {"id": number, "at": "2025-10-01 12:00:00", "value": number % 1000}
            if number % bad_every:
                if number % 97 == 0:
                    record["at"] = "2025-10-01T12:00"  # good, and Spark's to say
                self.good.append(number)
                values.append(json.dumps(record).encode())
                continue
            kinds = [{**record, "value": -1}, {**record, "id": "x"}, {**record, "at": "2025-02-30 12:00:00"}]
            value = json.dumps(kinds[number // bad_every % 3]).encode()
            values.append(value if number // bad_every % 4 else value[:-1])
            self.bad.append(values[-1])
        send(self._stream.settings, self._stream.frozen.topics["a"], values, partitions=PARTITIONS)

    def check(self) -> None:
        rows, quarantined = self._stream.rows("rows"), self._stream.quarantined()
        places = Counter((row["part"], row["place"]) for row in rows)
        assert not [place for place, times in places.items() if times > 1], "a record is there twice"
        assert sorted(row["id"] for row in rows) == self.good
        assert Counter(row["value"] for row in quarantined) == Counter(self.bad)
        assert all(row["rules"] and row["batch_id"] is not None for row in quarantined)
        total = self._stream.books().total
        assert (total.read, total.good, total.quarantined) == (
            len(self.good) + len(self.bad),
            len(self.good),
            len(self.bad),
        )


@pytest.fixture
def stream(service_environ: dict[str, str], broker: object, tmp_path: Path) -> Iterator[Stream]:
    environ = {
        **service_environ,
        "HEADGATE_ROOTS_STATE": str(tmp_path / "state"),
        "HEADGATE_SPARK_UI": "false",
    }
    made = Stream(environ, contract(f"arrow-{os.getpid()}", "arrow"))
    apply_plan(made.settings, make_plan(made.settings, [made.frozen]), by="tests")
    try:
        yield made
    finally:
        made.end()


def writer(stream: Stream) -> str | None:
    path = table_path(stream.settings.tables, stream.pipeline, "rows")
    return DeltaTable(str(path)).metadata().configuration.get("headgate.writer")


def test_a_driver_in_the_arrow_lane_loses_and_doubles_nothing_and_hands_over_to_the_other_lane(stream):
    feed = Feed(stream)
    feed.send(6_000, bad_every=50)
    stream.start()
    stream.until_drained()
    feed.check()
    assert writer(stream) == "deltalake"

    # Half of them bad: more than a task carries along. Killed somewhere in the batches of these.
    before = newest(stream.query(RECORDS) / "commits")
    feed.send(24_000, bad_every=2)
    stream.until(lambda: newest(stream.query(RECORDS) / "commits") != before, "a batch with many bad records")
    time.sleep(0.2)
    stream.drivers[-1].kill()
    stream.start()
    stream.until_drained()
    feed.check()
    assert stream.drivers[-1].stop() == 0

    arrow, jvm = stream.frozen, contract(stream.pipeline, "jvm")
    apply_plan(stream.settings, make_plan(stream.settings, [jvm]), by="tests")
    feed.send(2_000, bad_every=10)
    stream.start(contract_hash=jvm.hash)
    stream.until_drained()
    feed.check()
    assert writer(stream) == "delta-spark"
    assert stream.drivers[-1].stop() == 0

    apply_plan(stream.settings, make_plan(stream.settings, [arrow]), by="tests")
    feed.send(2_000, bad_every=10)
    stream.start()
    stream.until_drained()
    feed.check()
    assert writer(stream) == "deltalake"
    assert stream.drivers[-1].stop() == 0
