"""Wide records and values of up to a megabyte over 64 partitions, through a driver with one gigabyte."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from driver_memory import watched
from driver_process import Stream, send
from two_lanes import frozen_of

from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import batch_offsets, newest
from headgate.contract.frozen import FrozenContract, freeze
from headgate.topics.apply import apply_plan
from headgate.topics.plan import make_plan

PARTITIONS, COLUMNS = 64, 100
FEW = 4  # partitions where nothing is tried of many: each is a task of every batch
BATCH = 64 * 1024 * 1024
HEAP = 1024**3
BESIDE_HEAP = 800 * 1024**2  # classes, compiled code, threads, and the buffers that Arrow and Kafka take
WORKERS = 600 * 1024**2  # of two tasks at once
TEXTS = [f"text_{number:02}" for number in range(1, COLUMNS)]
JOB = {"trigger": "500 milliseconds", "max_bytes_per_batch": "64m", "cores": 2, "memory": "1g"}


def contract(name: str, lane: str, partitions: int, compression: str) -> FrozenContract:
    columns = [{"name": "id", "type": "long", "required": True}]
    columns += [{"name": text, "type": "string"} for text in TEXTS]
    places = "_partition AS part, _offset AS place"
    outputs = {
        "rows": {
            "sql": f"SELECT id, {', '.join(TEXTS)}, {places} FROM a",
            "to": [{"delta": "rows"}],
            "lane": lane,
        }
    }
    types = {"id": "long", **dict.fromkeys(TEXTS, "string"), "part": "int", "place": "long"}
    config = {"compression.type": compression}
    source = {"topic": f"{name}-in", "partitions": partitions, "columns": columns, "config": config}
    return named(name, frozen_of(source, outputs, {"rows": types}))


def windows(name: str) -> FrozenContract:
    """A query with state, on records that Python cannot unpack."""
    source = {
        "topic": f"{name}-in",
        "columns": [{"name": "id", "type": "long"}, {"name": "at", "type": "timestamp", "required": True}],
        "event_time": {"column": "at", "watermark": "1 hour", "max_future": "10 minutes"},
        "config": {"compression.type": "zstd"},
    }
    counts = {
        "sql": "SELECT window.start AS minute, id % 3 AS third, count(*) AS records "
        "FROM a GROUP BY window(at, '1 minute'), id % 3",
        "mode": "update",
        "key": ["minute", "third"],
        "to": [{"delta": "counts"}],
    }
    types = {"minute": "timestamp", "third": "long", "records": "long"}
    return named(name, frozen_of(source, {"counts": counts}, {"counts": types}, stateful=True))


def named(name: str, plain: FrozenContract) -> FrozenContract:
    contract = plain.contract.model_validate(
        {
            **plain.contract.model_dump(mode="json", exclude_defaults=True),
            "pipeline": name,
            "job": JOB,
            "slo": {"freshness": "20 minutes"},  # so that a slow machine is no reason for small batches
        }
    )
    return freeze(
        contract,
        topics={"a": f"{name}-in"},
        replication=1,
        outputs=plain.outputs,
        env="local",
        headgate_version="0",
    )


class Feed:
    """What was sent: the number of a record is its offset in the partition of that number's remainder."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._partitions = stream.frozen.contract.sources["a"].partitions
        self._sizes: list[int] = []
        self._texts: list[int] = []  # length of the one text that is long in some

    def send(self, count: int, *, large: bool) -> None:
        assert count % self._partitions == 0, "so that a record's place follows from its number"
        values = []
        for number in range(len(self._sizes), len(self._sizes) + count):
            long = 300_000 + number * 104_729 % 700_000 if large else 10
            record = {"id": number, **dict.fromkeys(TEXTS, "ten signs."), TEXTS[0]: "x" * long}
            values.append(json.dumps(record).encode())
            self._texts.append(long)
        send(self.stream.settings, self.stream.frozen.topics["a"], values, partitions=self._partitions)
        self._sizes += [len(value) for value in values]

    def batches(self) -> list[tuple[int, int]]:
        """Records and bytes of each batch of the record query, by its offsets."""
        query, before = self.stream.query(RECORDS), dict.fromkeys(range(self._partitions), 0)
        last = newest(query / "commits")
        assert last is not None
        found = []
        for batch in range(last + 1):
            offsets = batch_offsets(query, batch).offsets[self.stream.frozen.topics["a"]]
            places = [
                place * self._partitions + number
                for number, begin in before.items()
                for place in range(begin, offsets[number])
            ]
            found.append((len(places), sum(self._sizes[place] for place in places)))
            before = offsets
        return found

    def check(self) -> None:
        rows = self.stream.rows("rows")
        places = Counter((row["part"], row["place"]) for row in rows)
        assert not [place for place, times in places.items() if times > 1], "a record is there twice"
        assert {row["id"]: len(row[TEXTS[0]]) for row in rows} == dict(enumerate(self._texts))
        total = self.stream.books().total
        assert (total.read, total.good, total.quarantined) == (len(self._sizes), len(self._sizes), 0)


@pytest.fixture
def applied(
    service_environ: dict[str, str], broker: object, tmp_path: Path
) -> Iterator[Callable[[FrozenContract], Stream]]:
    made: list[Stream] = []

    def make(frozen: FrozenContract) -> Stream:
        environ = {
            **service_environ,
            "HEADGATE_ROOTS_STATE": str(tmp_path / "state"),
            "HEADGATE_SPARK_UI": "false",
        }
        made.append(Stream(environ, frozen))
        apply_plan(made[-1].settings, make_plan(made[-1].settings, [frozen]), by="tests")
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            each.end()


@pytest.fixture
def place(applied: Callable[[FrozenContract], Stream]) -> Callable[..., Feed]:
    """`place(lane, partitions)`: an applied contract, and what is sent to it."""

    def make(lane: str, partitions: int, compression: str = "producer") -> Feed:
        name = f"bytes-{lane}-{time.time_ns()}"
        return Feed(applied(contract(name, lane, partitions, compression)))

    return make


def log(stream: Stream) -> str:
    """Of the newest driver."""
    return stream.drivers[-1].log.read_text(encoding="utf-8", errors="replace")


def resized(stream: Stream, query: str = RECORDS) -> int:
    """How often this driver has started a query again for another cap."""
    return log(stream).count(f"query {query} has started again")


def first_cap(stream: Stream, query: str = RECORDS) -> int:
    found = re.search(rf"query {query} begins, a batch has at most (\d+) records of a", log(stream))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("lane", ["arrow", "jvm"])
def test_a_driver_that_finds_values_of_up_to_a_megabyte_takes_as_many_bytes_at_once_as_it_may(place, lane):
    feed = place(lane, PARTITIONS)
    feed.send(192, large=True)
    with watched(feed.stream.start()) as peak:
        feed.stream.until_drained()
    batches = feed.batches()
    assert max(size for _, size in batches) <= 1.5 * BATCH < sum(size for _, size in batches)
    assert HEAP // 4 < peak.jvm < HEAP + BESIDE_HEAP, peak
    assert (peak.workers > 0) == (lane == "arrow"), peak
    assert peak.workers < WORKERS, peak
    feed.check()
    assert feed.stream.drivers[-1].stop() == 0


def test_a_query_takes_more_records_at_once_when_they_become_small_and_fewer_when_they_are_large_again(place):
    feed = place("arrow", FEW)
    stream = feed.stream
    feed.send(192, large=True)
    stream.start()
    stream.until_drained()
    assert first_cap(stream) < 256
    assert resized(stream) == 0, "the sample was right"

    # A backlog, which would take a hundred batches.
    before = len(feed.batches())
    feed.send(12_800, large=False)
    stream.until_drained()
    more = resized(stream)
    assert more > 0
    assert max(records for records, _ in feed.batches()[before:]) > 256

    # Each few of them no large batch: what a full one would be is seen all the same, and soon after a change.
    for _ in range(12):
        feed.send(64, large=True)
        stream.until_drained()
        if resized(stream) > more:
            break
    assert resized(stream) > more
    feed.check()
    assert stream.drivers[-1].stop() == 0


def test_records_that_python_cannot_unpack_are_taken_for_large_ones_until_a_driver_has_measured_them(place):
    feed = place("arrow", FEW, "zstd")
    stream = feed.stream
    feed.send(6_400, large=False)
    stream.start()
    stream.until_drained()
    assert first_cap(stream) == BATCH // (1024 * 1024), log(stream)
    assert resized(stream) > 0
    assert len(feed.batches()) < 6_400 // first_cap(stream) // 2
    assert stream.drivers[-1].stop() == 0

    stream.start()
    stream.until_running()
    assert "as measured before" in log(stream)
    assert first_cap(stream) > 6_400
    feed.send(640, large=False)
    stream.until_drained()
    feed.check()
    assert stream.drivers[-1].stop() == 0


def test_a_query_with_little_state_starts_again_for_larger_batches_and_counts_each_record_once(applied):
    stream = applied(windows(f"bytes-windows-{time.time_ns()}"))
    base, values = datetime(2025, 10, 1, tzinfo=UTC), []
    expected: Counter[tuple[datetime, int]] = Counter()
    for number in range(4_000):
        at = base + timedelta(seconds=number // 10)
        values.append(json.dumps({"id": number, "at": at.isoformat()}).encode())
        expected[at.replace(second=0), number % 3] += 1
    send(stream.settings, stream.frozen.topics["a"], values)
    stream.start()
    begun_at = stream.until_running()["queries"]["counts"]["begun_at"]
    stream.until_drained()
    assert first_cap(stream, "counts") == BATCH // (1024 * 1024)
    assert resized(stream, "counts") > 0
    assert {(row["minute"], row["third"]): row["records"] for row in stream.rows("counts")} == dict(expected)
    assert stream.status()["queries"]["counts"]["begun_at"] > begun_at
    assert stream.drivers[-1].stop() == 0
