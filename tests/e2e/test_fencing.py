"""Single active driver, layer (b) and (c), with layer (a) switched off: a successor starts while the old
driver is frozen in the middle of a batch, at every commit boundary, and is thawed after it.

Layer (a), the proof of death, has its tests in test_supervisor.py; the layers of the sinks alone in
tests/unit/spark/test_delta.py and test_results.py. One chain of drivers: each successor is the next one
to be frozen, once with the records in each lane. Fault-matrix row 3.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from string import Template
from typing import Any

import pytest
import redis
from driver_process import Driver, Stream, send

from headgate import failpoints
from headgate.contract.loader import load_contracts
from headgate.contract.resolve import resolve
from headgate.failpoints import BOUNDARIES, WATCH, Order
from headgate.settings import load_settings
from headgate.topics.apply import apply_plan
from headgate.topics.plan import make_plan

pytestmark = pytest.mark.e2e

CONTRACT = Template("""\
headgate: 1
pipeline: $pipeline
version: 1
owner: tests
sources:
  orders:
    topic: $pipeline-orders
    columns:
      - {name: at, type: timestamp, zone: UTC, required: true}
      - {name: amount, type: int, required: true}
    event_time: {column: at, watermark: 1 hour, max_future: 10 minutes}
    rules:
      - {name: positive, expect: amount > 0}
outputs:
  sales: {sql: "SELECT at, amount, _offset AS place FROM orders", $sales}
  totals:
    sql: SELECT at, count(*) AS orders, sum(amount) AS amount FROM orders GROUP BY at
    mode: update
    key: [at]
    to: [{delta: totals}, {redis: $pipeline-totals}]
job: {trigger: 200 milliseconds, max_records_per_batch: 1000, cores: 1, memory: 1g, shuffle_partitions: 1}
""")
SALES = {
    "jvm": "key: [at, place], to: [{delta: sales}, {redis: fenced-jvm-sales}]",
    "arrow": "lane: arrow, to: [{delta: sales}]",
}
# Two threads of a driver can stand at a boundary each. In their order, all pairs can be reached in one batch
# that is run again and again; frozen drivers cost memory, so half of them at a time.
PAIRS = [
    [name for name in pair if name]
    for pair in zip_longest(
        [name for name in BOUNDARIES if name.startswith("records.")],
        [name for name in BOUNDARIES if name.startswith("stateful.")],
    )
]
HALVES = {
    ("jvm", "first"): PAIRS[:5],
    ("jvm", "second"): PAIRS[5:],
    # The same boundaries but for Redis, to which no output of this lane goes.
    ("arrow", "first"): [
        ["records.gate"],
        ["records.before_delta"],
        ["records.after_delta"],
        ["records.before_quarantine"],
    ],
    ("arrow", "second"): [
        ["records.after_quarantine"],
        ["records.before_books"],
        ["records.after_books"],
        ["records.before_commit"],
    ],
}


class Chain:
    """One stream, its newest driver, and what was sent to it."""

    def __init__(self, stream: Stream, lane: str, redis_url: str) -> None:
        self.stream = stream
        self.lane = lane
        self.redis = redis.Redis.from_url(redis_url)
        self.amounts: list[int] = []
        self.bad = 0

    @property
    def folder(self) -> Path:
        return self.stream.settings.state / "failpoints"

    def send(self) -> None:
        """Twenty good records and a bad one, all of one minute."""
        first = len(self.amounts) + 1
        amounts = list(range(first, first + 20))
        self.amounts += amounts
        self.bad += 1
        values = [{"at": f"2025-10-01 12:00:{n % 10:02}", "amount": n} for n in [*amounts, -self.bad]]
        send(
            self.stream.settings,
            self.stream.frozen.topics["orders"],
            [json.dumps(v).encode() for v in values],
        )

    def hold(self, names: list[str], epoch: int) -> None:
        for name in names:
            failpoints.place(self.stream.settings, f"{epoch}-{name}", Order(name, "hold", epoch=epoch))

    def held(self, names: list[str], epoch: int) -> bool:
        return all((self.folder / f"{epoch}-{name}.fired").exists() for name in names)

    def release(self, names: list[str], epoch: int) -> None:
        for name in names:
            (self.folder / f"{epoch}-{name}.fired").unlink()

    def written(self) -> dict[str, Any]:
        """Every table's version and every value in Redis."""
        name = self.stream.pipeline
        published = [f"{name}-sales".encode(), f"{name}-totals".encode()]
        keys = sorted([*self.redis.keys(f"headgate:torture:{name}:*"), *published])
        return {**self.stream.versions(), **{key.decode(): self.redis.dump(key) for key in keys}}

    def settle(self, driver: Driver) -> None:
        """Until a driver has read everything, or has ended."""
        until = time.monotonic() + 120
        while driver.running and not self.stream.drained():
            assert time.monotonic() < until, driver.tail()
            time.sleep(0.2)

    def quiet(self) -> dict[str, Any]:
        """What is written once the newest driver has read everything and has nothing more to do."""
        self.stream.until_drained()
        seen = self.written()
        since = time.monotonic()
        while time.monotonic() - since < 1.5:
            time.sleep(0.2)
            now = self.written()
            if now != seen:
                seen, since = now, time.monotonic()
        return seen

    def thaw(self, old: Driver, names: list[str]) -> None:
        """Its main thread, which would end it at once, last: the boundaries alone shall keep it off."""
        old.resume()
        self.release(names, old.epoch)
        self.stream.until(
            lambda: _queries_ended(old) >= len(names), f"its queries end at {names}:\n{old.tail()}", 120
        )
        self.release([WATCH], old.epoch)

    def succeed(self) -> Driver:
        driver = self.stream.start(beside=True)
        self.stream.until_running()
        return driver

    def check(self) -> None:
        sales = self.stream.rows("sales")
        assert sorted(row["amount"] for row in sales) == self.amounts
        totals = self.stream.rows("totals")
        assert (sum(r["orders"] for r in totals), sum(r["amount"] for r in totals)) == (
            len(self.amounts),
            sum(self.amounts),
        )
        assert len(totals) == len({row["at"] for row in totals})
        assert len(self.stream.quarantined()) == self.bad
        total = self.stream.books().total
        assert (total.read, total.good) == (len(self.amounts) + self.bad, len(self.amounts))


@pytest.fixture(scope="module", params=SALES)
def chain(
    request: pytest.FixtureRequest,
    service_environ: dict[str, str],
    broker: object,
    redis_server: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Chain]:
    root = tmp_path_factory.mktemp("fencing")
    environ = {
        **service_environ,
        "HEADGATE_ENV": "torture",
        "HEADGATE_ROOTS_STATE": str(root / "state"),
        "HEADGATE_SPARK_UI": "false",
        "HEADGATE_PIPELINES": str(root / "pipelines"),
    }
    settings, _ = load_settings(environ=environ)
    settings.pipelines_dir.mkdir(parents=True)
    lane = request.param
    text = CONTRACT.substitute(pipeline=f"fenced-{lane}", sales=SALES[lane])
    (settings.pipelines_dir / "fenced.yaml").write_text(text)
    (frozen,) = resolve(load_contracts(settings.pipelines_dir), settings)
    apply_plan(settings, make_plan(settings, [frozen]), by="tests")
    chain = Chain(Stream(environ, frozen), lane, redis_server.url)
    try:
        chain.stream.start()
        chain.stream.until_running()
        chain.send()
        chain.quiet()
        yield chain
    finally:
        chain.stream.end()
        chain.redis.close()


@pytest.mark.parametrize("half", ["first", "second"])
def test_row_03_a_driver_thawed_at_a_boundary_writes_nothing_and_ends_fenced(chain: Chain, half: str) -> None:
    frozen = []
    for names in HALVES[chain.lane, half]:
        # Each is the successor of the one before, and meets the batch that all of them had begun.
        epoch = chain.stream.epoch + bool(frozen)
        chain.hold([*names, WATCH], epoch)
        old = chain.stream.start(beside=True) if frozen else chain.stream.drivers[-1]
        if not frozen:
            chain.send()
        chain.stream.until(lambda n=names, e=epoch: chain.held([*n, WATCH], e), f"it stands at {names}")
        old.pause()
        frozen.append((old, names))
    new = chain.succeed()
    before = chain.quiet()
    for old, names in frozen:
        chain.thaw(old, names)
        assert old.exit_code() == 11, old.tail()
        assert chain.written() == before, f"{names} let something through"
        assert new.running
        assert chain.stream.status()["epoch"] == new.epoch
    chain.check()


def _queries_ended(driver: Driver) -> int:
    return driver.log.read_text(encoding="utf-8", errors="replace").count("terminated with error")


def test_row_03_a_driver_thawed_between_batches_ends_fenced_without_any_input(chain: Chain) -> None:
    old = chain.stream.drivers[-1]
    old.pause()
    chain.succeed()
    before = chain.quiet()
    old.resume()
    assert old.exit_code() == 11, old.tail()
    assert chain.written() == before
    newest = chain.stream.drivers[-1]
    chain.send()
    chain.settle(newest)
    if not newest.running:
        # The old one had begun to plan a batch when its claim stopped it: who finds the file of another in
        # Spark's log ends, and the supervisor starts it again.
        assert newest.exit_code() == 11, newest.tail()
        chain.succeed()
    chain.quiet()
    chain.check()


def test_every_failpoint_was_reached_by_these_drivers(chain: Chain) -> None:
    reachable = {*BOUNDARIES, WATCH}
    if chain.lane == "arrow":
        reachable -= {"records.before_redis", "records.after_redis"}
    assert {path.name for path in (chain.folder / "seen").iterdir()} == reachable
