"""Wide records and values of up to a megabyte over 64 partitions, through a driver with one gigabyte."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver_process import Stream, send
from two_lanes import frozen_of

from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import batch_offsets, newest
from headgate.contract.frozen import FrozenContract, freeze
from headgate.topics.apply import apply_plan
from headgate.topics.plan import make_plan

PARTITIONS, COLUMNS = 64, 100
BATCH = 64 * 1024 * 1024
TEXTS = [f"text_{number:02}" for number in range(1, COLUMNS)]
JOB = {"trigger": "500 milliseconds", "max_bytes_per_batch": "64m", "cores": 2, "memory": "1g"}


def contract(name: str, lane: str, compression: str) -> FrozenContract:
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
    source = {"topic": f"{name}-in", "partitions": PARTITIONS, "columns": columns, "config": config}
    plain = frozen_of(source, outputs, {"rows": types})
    named = plain.contract.model_validate(
        {
            **plain.contract.model_dump(mode="json", exclude_defaults=True),
            "pipeline": name,
            "job": JOB,
            "slo": {"freshness": "20 minutes"},  # so that a slow machine is no reason for small batches
        }
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
    """What was sent: the number of a record is its offset in the partition of that number's remainder."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._sizes: list[int] = []
        self._texts: list[int] = []  # length of the one text that is long in some

    def send(self, count: int, *, large: bool) -> None:
        assert count % PARTITIONS == 0, "so that a record's place follows from its number"
        values = []
        for number in range(len(self._sizes), len(self._sizes) + count):
            long = 300_000 + number * 104_729 % 700_000 if large else 10
            record = {"id": number, **dict.fromkeys(TEXTS, "ten signs."), TEXTS[0]: "x" * long}
            values.append(json.dumps(record).encode())
            self._texts.append(long)
        send(self.stream.settings, self.stream.frozen.topics["a"], values, partitions=PARTITIONS)
        self._sizes += [len(value) for value in values]

    def batches(self) -> list[tuple[int, int]]:
        """Records and bytes of each batch of the record query, by its offsets."""
        query, before = self.stream.query(RECORDS), dict.fromkeys(range(PARTITIONS), 0)
        last = newest(query / "commits")
        assert last is not None
        found = []
        for batch in range(last + 1):
            offsets = batch_offsets(query, batch).offsets[self.stream.frozen.topics["a"]]
            places = [
                place * PARTITIONS + number
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
def place(service_environ: dict[str, str], broker: object, tmp_path: Path) -> Iterator[Callable[..., Feed]]:
    """`place(lane)`: an applied contract, and what is sent to it."""
    made: list[Stream] = []

    def make(lane: str, compression: str = "producer") -> Feed:
        environ = {
            **service_environ,
            "HEADGATE_ROOTS_STATE": str(tmp_path / "state"),
            "HEADGATE_SPARK_UI": "false",
        }
        stream = Stream(environ, contract(f"bytes-{lane}-{time.time_ns()}", lane, compression))
        made.append(stream)
        apply_plan(stream.settings, make_plan(stream.settings, [stream.frozen]), by="tests")
        return Feed(stream)

    try:
        yield make
    finally:
        for each in made:
            each.end()


def log(stream: Stream) -> str:
    """Of the newest driver."""
    return stream.drivers[-1].log.read_text(encoding="utf-8", errors="replace")


def resized(stream: Stream) -> int:
    """How often this driver has started a query again for another cap."""
    return log(stream).count("query records has started again")


def first_cap(stream: Stream) -> int:
    found = re.search(r"query records begins, a batch has at most (\d+) records of a", log(stream))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("lane", ["arrow", "jvm"])
def test_a_driver_that_finds_values_of_up_to_a_megabyte_takes_as_many_bytes_at_once_as_it_may(place, lane):
    feed = place(lane)
    feed.send(192, large=True)
    feed.stream.start()
    feed.stream.until_drained()
    batches = feed.batches()
    assert max(size for _, size in batches) <= 1.5 * BATCH < sum(size for _, size in batches)
    feed.check()
    assert feed.stream.drivers[-1].stop() == 0


def test_a_query_takes_more_records_at_once_when_they_become_small_and_fewer_when_they_are_large_again(place):
    feed = place("arrow")
    stream = feed.stream
    feed.send(192, large=True)
    stream.start()
    stream.until_drained()
    assert first_cap(stream) < 4 * PARTITIONS
    assert resized(stream) == 0, "the sample was right"

    # A backlog, which would take a hundred batches.
    before = len(feed.batches())
    feed.send(12_800, large=False)
    stream.until_drained()
    more = resized(stream)
    assert more > 0
    assert max(records for records, _ in feed.batches()[before:]) > 4 * PARTITIONS

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
    feed = place("arrow", "zstd")
    stream = feed.stream
    feed.send(6_400, large=False)
    stream.start()
    stream.until_drained()
    assert first_cap(stream) == BATCH // (1024 * 1024), log(stream)
    assert resized(stream) > 0
    assert len(feed.batches()) < 6_400 // PARTITIONS // 2
    assert stream.drivers[-1].stop() == 0

    stream.start()
    stream.until_running()
    assert "as measured before" in log(stream)
    assert first_cap(stream) > 6_400
    feed.send(640, large=False)
    stream.until_drained()
    feed.check()
    assert stream.drivers[-1].stop() == 0
