"""Wide records and values of up to a megabyte over 64 partitions, through a driver with one gigabyte."""

from __future__ import annotations

import json
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


def contract(name: str, lane: str) -> FrozenContract:
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
    source = {"topic": f"{name}-in", "partitions": PARTITIONS, "columns": columns}
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
def place(service_environ: dict[str, str], broker: object, tmp_path: Path) -> Iterator[Callable[[str], Feed]]:
    """`place(lane)`: an applied contract, and what is sent to it."""
    made: list[Stream] = []

    def make(lane: str) -> Feed:
        environ = {
            **service_environ,
            "HEADGATE_ROOTS_STATE": str(tmp_path / "state"),
            "HEADGATE_SPARK_UI": "false",
        }
        stream = Stream(environ, contract(f"bytes-{lane}-{time.time_ns()}", lane))
        made.append(stream)
        apply_plan(stream.settings, make_plan(stream.settings, [stream.frozen]), by="tests")
        return Feed(stream)

    try:
        yield make
    finally:
        for each in made:
            each.end()


def resized(stream: Stream) -> int:
    """How often this driver has started a query again for another cap."""
    log = stream.drivers[-1].log.read_text(encoding="utf-8", errors="replace")
    return log.count("starts again with batches of")


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


def test_a_query_takes_fewer_records_at_once_when_they_become_large_and_more_when_they_are_small_again(place):
    feed = place("arrow")
    stream = feed.stream
    feed.send(640, large=False)
    stream.start()
    stream.until_drained()

    # Each few of them no large batch: what a full one would be is seen all the same.
    for _ in range(12):
        feed.send(64, large=True)
        stream.until_drained()
        if resized(stream) > 1:
            break
    less = resized(stream)
    assert less > 1

    # A backlog, which would take two hundred batches.
    before = len(feed.batches())
    feed.send(12_800, large=False)
    stream.until_drained()
    assert resized(stream) > less
    assert max(records for records, _ in feed.batches()[before:]) > 4 * PARTITIONS
    feed.check()
    assert stream.drivers[-1].stop() == 0
