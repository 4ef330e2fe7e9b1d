"""A real driver is killed within a batch, and another contract comes: the old one ends what it has begun."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver_process import Stream, send
from small_contract import record, small_contract

from headgate import failpoints
from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import newest
from headgate.contract.frozen import FrozenContract, with_lane
from headgate.failpoints import Order
from headgate.topics.apply import apply_plan
from headgate.topics.plan import make_plan

BATCH = 200
JOB = {"trigger": "200 milliseconds", "max_records_per_batch": BATCH, "cores": 1, "memory": "1g"}
NO_THREES = [{"name": "no_threes", "expect": "id % 10 <> 3"}]
THREES = BATCH // 10  # in each batch
PARTITIONS = 2

StreamOf = Callable[[FrozenContract], Stream]


@pytest.fixture
def stream_of(service_environ: dict[str, str], broker: object, tmp_path: Path) -> Iterator[StreamOf]:
    made: list[Stream] = []

    def make(frozen: FrozenContract) -> Stream:
        own = {
            "HEADGATE_ENV": "torture",
            "HEADGATE_ROOTS_STATE": str(tmp_path),
            "HEADGATE_SPARK_UI": "false",
        }
        made.append(Stream({**service_environ, **own}, frozen))
        return made[-1]

    yield make
    for each in made:
        each.end()


def apply(stream: Stream, frozen: FrozenContract) -> None:
    stream.frozen = frozen
    apply_plan(stream.settings, make_plan(stream.settings, [frozen]), by="tests")


@pytest.mark.parametrize(
    ("lane", "failpoint", "query"),
    [
        ("jvm", "records.after_delta", RECORDS),
        ("arrow", "records.after_delta", RECORDS),
        ("jvm", "stateful.after_delta", "counts"),
    ],
)
def test_a_batch_that_a_table_has_is_ended_with_its_own_contract_before_another_is_in_force(
    stream_of, lane, failpoint, query
):
    name = f"unfinished-{os.getpid()}-{lane}-{query}"
    before, after = (
        with_lane(small_contract(name, job=JOB, partitions=PARTITIONS, rules=rules), lane)
        for rules in (NO_THREES, [])
    )
    stream = stream_of(before)
    apply(stream, before)
    send(stream.settings, f"{name}-in", [record(n) for n in range(2 * BATCH)], PARTITIONS)
    failpoints.place(stream.settings, failpoint, Order(failpoint, "kill", hit=1))
    stream.start().exit_code()
    assert (stream.settings.state / "failpoints" / f"{failpoint}.fired").exists(), stream.drivers[-1].tail()
    assert newest(stream.query(query) / "commits") is None, "its first batch is in the table alone"
    stream.drivers[-1].kill()

    apply(stream, after)
    stream.start()
    stream.until_drained()
    log = stream.drivers[-1].log.read_text(encoding="utf-8")
    assert f"batch 0 of query {query} is in a table and not committed: contract {before.hash[:12]}" in log
    rows, quarantined = (
        Counter(row["id"] for row in stream.rows("rows")),
        Counter(int(row["value"].split(b'"id": ')[1].split(b",")[0]) for row in stream.quarantined()),
    )
    assert rows + quarantined == Counter(range(2 * BATCH)), "each record once, in one of the two"
    total = stream.books().total
    assert (total.good, total.quarantined) == (rows.total(), quarantined.total())
    if query == RECORDS:
        assert quarantined.total() == THREES, "of the first batch alone"
    else:
        counted = sum(row["n"] for row in stream.rows("counts"))
        assert counted == 2 * BATCH - THREES, "the first batch was judged by the old contract"
    assert stream.drivers[-1].stop() == 0
