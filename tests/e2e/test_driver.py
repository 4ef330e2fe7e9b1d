"""Real drivers against a real broker, real tables and a real Redis: what they write, and how they end."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from driver_process import Stream, send

from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import newest
from headgate.contract.frozen import FrozenContract
from headgate.contract.loader import load_contracts
from headgate.contract.resolve import resolve
from headgate.settings import load_settings
from headgate.topics.apply import apply_plan
from headgate.topics.kafka import admin_client
from headgate.topics.plan import make_plan

pytestmark = pytest.mark.e2e

BASE = datetime(2025, 10, 1, tzinfo=UTC)
SHOPS = ("north", "south", "ost")

# Two sources; a stateless table in partitions, a stateful one, and an output that only Redis gets.
SHOP = """\
headgate: 1
pipeline: shop-PID
version: 1
owner: tests
sources:
  orders:
    topic: orders-PID
    partitions: 2
    columns:
      - {name: at, type: timestamp, zone: UTC, required: true}
      - {name: shop, type: string, required: true}
      - {name: amount, type: int}
    event_time: {column: at, watermark: 1 hour, max_future: 10 minutes}
    rules:
      - {name: positive, expect: amount > 0}
      - {name: small, expect: amount < 900, otherwise: warn}
  returns:
    topic: returns-PID
    columns:
      - {name: at, type: timestamp, zone: UTC}
      - {name: count, type: string}
    rules:
      - {name: a_number, expect: CAST(count AS INT) >= 0}
outputs:
  sales:
    sql: SELECT at, shop, amount, _partition AS kafka_partition, _offset AS kafka_offset FROM orders
    to: [{delta: sales, partition_by: [shop]}]
  per_minute:
    sql: >-
      SELECT window.start AS minute, shop, count(*) AS orders, sum(amount) AS amount
      FROM orders GROUP BY window(at, '1 minute'), shop
    mode: update
    key: [minute, shop]
    to: [{delta: per_minute}, {redis: latest-per-minute-PID}]
  returned:
    sql: SELECT at, CAST(count AS INT) AS items FROM returns
    key: [at]
    to: [{redis: latest-returned-PID}]
job: {trigger: 300 milliseconds, max_records_per_batch: 400, cores: 1, memory: 1g}
"""

STRICT = """\
headgate: 1
pipeline: strict-PID
version: 1
owner: tests
sources:
  readings:
    topic: strict-PID
    columns:
      - {name: at, type: timestamp, required: true}
      - {name: value, type: int}
    event_time: {column: at}
    rules:
      - {name: never_negative, expect: value >= 0, otherwise: fail}
outputs:
  copy:
    sql: SELECT at, value FROM readings
    to: [{delta: copy}]
  total:
    sql: SELECT at, sum(value) AS total FROM readings GROUP BY at
    mode: update
    key: [at]
    to: [{delta: total}]
job: {trigger: 300 milliseconds, cores: 1, memory: 1g}
"""

LOGS = """\
headgate: 1
pipeline: lines-PID
version: 1
owner: tests
sources:
  lines:
    topic: lines-PID
    format: text
    pattern: '^(?<time>\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d) (?:(?<level>INFO|WARN|ERROR) )?'
    columns:
      - {name: time, type: timestamp, zone: UTC, required: true}
      - {name: level, type: string}
    event_time: {column: time, watermark: 10 minutes, max_future: 10 minutes}
outputs:
  per_minute:
    sql: >-
      SELECT window.start AS minute, level, count(*) AS lines
      FROM lines GROUP BY window(time, '1 minute'), level
    mode: update
    key: [minute, level]
    to: [{delta: per_minute}]
job: {trigger: 300 milliseconds, max_records_per_batch: 3000, cores: 1, memory: 1g}
"""

# A breaker that need not be waited for.
POISON = """\
headgate: 1
pipeline: poison-PID
version: 1
owner: tests
sources:
  events:
    topic: poison-PID
    columns: [{name: id, type: long, required: true}]
outputs:
  copy:
    sql: SELECT id FROM events
    to: [{delta: copy}]
job: {trigger: 100 milliseconds, max_records_per_batch: 30, cores: 1, memory: 1g, poison_park: 1 second}
"""


@dataclass
class Sent:
    """What a test has sent to the shop, and what must come of it."""

    good: list[tuple[datetime, str, int]] = field(default_factory=list)
    bad: list[bytes] = field(default_factory=list)
    returned: list[tuple[datetime, int]] = field(default_factory=list)
    warned: int = 0

    @property
    def count(self) -> int:
        return len(self.good) + len(self.bad) + len(self.returned)


@dataclass
class Shop:
    stream: Stream
    redis_url: str
    sent: Sent = field(default_factory=Sent)

    def send(self, count: int, seed: int) -> None:
        """Orders and returns, of which some are bad in each way."""
        chance = random.Random(seed)
        orders = [self._order(chance, len(self.sent.good) + len(self.sent.bad) + n) for n in range(count)]
        send(self.stream.settings, self.stream.frozen.topics["orders"], orders, partitions=2)
        returns = [self._return(chance, len(self.sent.returned)) for _ in range(count // 10)]
        send(self.stream.settings, self.stream.frozen.topics["returns"], returns)

    def _order(self, chance: random.Random, number: int) -> bytes:
        at = BASE + timedelta(seconds=number, minutes=-chance.randrange(3))
        amount, shop = chance.randrange(1, 1000), chance.choice(SHOPS)
        record = {"at": f"{at:%Y-%m-%d %H:%M:%S}", "shop": shop, "amount": amount}
        spoiled = [
            b'{"at": "20\xff\xfe',
            json.dumps({**record, "amount": -amount}).encode(),
            json.dumps({**record, "shop": None}).encode(),
            json.dumps({**record, "at": "9999-01-01 00:00:00"}).encode(),
            json.dumps(record).encode() * 2,
        ]
        if chance.random() < 0.05:
            self.sent.bad.append(chance.choice(spoiled))
            return self.sent.bad[-1]
        self.sent.good.append((at, shop, amount))
        self.sent.warned += amount >= 900
        return json.dumps(record).encode()

    def _return(self, chance: random.Random, number: int) -> bytes:
        at = BASE + timedelta(seconds=number)
        if chance.random() < 0.1:
            self.sent.bad.append(json.dumps({"at": str(at), "count": "many"}).encode())
            return self.sent.bad[-1]
        self.sent.returned.append((at, number))
        return json.dumps({"at": str(at), "count": str(number)}).encode()

    def check(self) -> None:
        """Everything that was sent is in its place, once."""
        stream, sent = self.stream, self.sent
        sales = stream.rows("sales")
        places = [(row["kafka_partition"], row["kafka_offset"]) for row in sales]
        assert len(places) == len(set(places)), "a record is in the table twice"
        assert Counter((row["at"], row["shop"], row["amount"]) for row in sales) == Counter(sent.good)

        bad = stream.quarantined()
        places = [(row["topic"], row["partition"], row["offset"]) for row in bad]
        assert len(places) == len(set(places)), "a record is in the quarantine twice"
        assert Counter(row["value"] for row in bad) == Counter(sent.bad)
        assert all(row["rules"] for row in bad)

        total = stream.books().total
        assert total.read == sent.count
        assert (total.good, total.quarantined) == (len(sent.good) + len(sent.returned), len(sent.bad))
        assert total.warned == sent.warned == total.rules.get("small", 0)

        windows: dict[tuple[datetime, str], list[int]] = {}
        for at, shop, amount in sent.good:
            windows.setdefault((at.replace(second=0), shop), []).append(amount)
        found = {(r["minute"], r["shop"]): (r["orders"], r["amount"]) for r in stream.rows("per_minute")}
        assert found == {key: (len(amounts), sum(amounts)) for key, amounts in windows.items()}
        assert len(stream.rows("per_minute")) == len(found), "a key is in the table twice"
        self._check_redis(windows)

    def _check_redis(self, windows: dict[tuple[datetime, str], list[int]]) -> None:
        newest = max(minute for minute, _ in windows)
        rows = self.published("latest-per-minute")["rows"]
        assert {row["shop"]: row["orders"] for row in rows} == {
            shop: len(amounts) for (minute, shop), amounts in windows.items() if minute == newest
        }
        at, number = max(self.sent.returned)
        document = self.published("latest-returned")
        assert document["rows"] == [{"at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "items": number}]
        assert (document["pipeline"], document["output"]) == (self.stream.pipeline, "returned")

    def published(self, key: str) -> dict[str, Any]:
        suffix = self.stream.pipeline.removeprefix("shop-")
        client = redis.Redis.from_url(self.redis_url)
        try:
            document: dict[str, Any] = json.loads(client.get(f"{key}-{suffix}"))  # type: ignore[arg-type]
            return document
        finally:
            client.close()


@pytest.fixture(scope="module")
def applied(
    service_environ: dict[str, str], broker: object, redis_server: object, tmp_path_factory: Any
) -> Iterator[dict[str, Stream]]:
    """The contracts, resolved in one analysis and applied: topics and tables are there."""
    root = tmp_path_factory.mktemp("driver")
    environ = {
        **service_environ,
        "HEADGATE_ROOTS_STATE": str(root / "state"),
        "HEADGATE_SPARK_UI": "false",
        "HEADGATE_PIPELINES": str(root / "pipelines"),
    }
    settings, _ = load_settings(environ=environ)
    suffix = str(abs(hash(root)))[:8]
    settings.pipelines_dir.mkdir(parents=True)
    for name, text in (("shop", SHOP), ("strict", STRICT), ("lines", LOGS), ("poison", POISON)):
        (settings.pipelines_dir / f"{name}.yaml").write_text(text.replace("PID", suffix))
    frozen = resolve(load_contracts(settings.pipelines_dir), settings)
    apply_plan(settings, make_plan(settings, frozen), by="tests")
    streams = {one.pipeline.partition("-")[0]: Stream(environ, one) for one in frozen}
    yield streams
    for stream in streams.values():
        stream.end()


@pytest.fixture(scope="module")
def shop(applied: dict[str, Stream], redis_server: Any) -> Shop:
    return Shop(applied["shop"], redis_server.url)


@pytest.fixture(autouse=True)
def no_driver_outlives_its_test(applied: dict[str, Stream]) -> Iterator[None]:
    yield
    for stream in applied.values():
        stream.end()


# The tests of the shop go on from one another: each starts where the one before has ended.


def test_records_reach_every_output_and_the_books_and_the_driver_reports(shop):
    stream = shop.stream
    shop.send(900, seed=1)
    driver = stream.start()
    status = stream.until_running()
    stream.until_drained()
    shop.check()
    assert set(status["queries"]) == {RECORDS, "per_minute"}
    assert (status["contract_hash"], status["lineage"]) == (stream.frozen.hash, stream.lineage)

    url = f"http://127.0.0.1:{status['metrics_port']}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    read = f'headgate_rows_total{{outcome="read",pipeline="{stream.pipeline}",query="records"}}'
    (line,) = [line for line in text.splitlines() if line.startswith(read)]
    assert float(line.split()[-1]) == shop.sent.count

    # A stop lets the running batch commit.
    shop.send(900, seed=2)
    before = newest(stream.query(RECORDS) / "commits")
    stream.until(lambda: newest(stream.query(RECORDS) / "commits") != before, "a batch after the second load")
    assert driver.stop() == 0
    assert stream.status()["phase"] == "stopped"
    assert not stream.torn()
    for query in (RECORDS, "per_minute"):
        folder = stream.query(query)
        assert newest(folder / "commits") is not None


def test_a_restart_goes_on_without_a_gap_and_without_a_double(shop):
    stream = shop.stream
    lineage = stream.lineage
    shop.send(200, seed=3)
    driver = stream.start()
    stream.until_drained()
    assert driver.stop() == 0
    assert stream.lineage == lineage
    shop.check()


def newest_commit(stream, output):
    """The newest file of a table's log, from its directory alone."""
    root = stream.settings.tables / stream.pipeline / str(stream.table_of(output)) / "_delta_log"
    return max((path.name for path in root.glob("*.json")), default="")


def test_a_kill_between_the_tables_commit_and_sparks_is_absorbed(shop):
    stream = shop.stream
    shop.send(50, seed=21)
    driver = stream.start()
    seeds = itertools.count(22)

    def caught() -> bool:
        # The driver is frozen as soon as a commit shows in the table's log, which is mostly soon enough.
        before = newest_commit(stream, "sales")
        shop.send(50, seed=next(seeds))
        end = time.monotonic() + 20
        while newest_commit(stream, "sales") == before and driver.running and time.monotonic() < end:
            time.sleep(0.001)
        driver.pause()
        if stream.torn():
            return True
        driver.resume()
        return False

    stream.until(caught, "a batch that is in the table and not in Spark's log")
    driver.kill()
    assert stream.torn()
    shop_torn = stream.version("sales")

    stream.start()
    stream.until_drained()
    shop.check()
    assert stream.version("sales") > shop_torn
    assert stream.drivers[-1].stop() == 0


def test_a_lower_epoch_is_fenced_and_writes_nothing(shop):
    stream = shop.stream
    shop.send(50, seed=31)
    before = (stream.versions(), stream.status(), newest(stream.query(RECORDS) / "offsets"))
    driver = stream.start(epoch=stream.epoch - 1)
    assert driver.exit_code() == 11
    assert (stream.versions(), stream.status(), newest(stream.query(RECORDS) / "offsets")) == before
    assert "has taken over" in driver.tail()


def test_an_epoch_that_was_claimed_before_is_fenced(shop):
    driver = shop.stream.start(epoch=shop.stream.epoch)
    assert driver.exit_code() == 11
    assert "claimed before" in driver.tail()


def test_an_unknown_contract_ends_with_what_to_run(shop):
    driver = shop.stream.start(contract_hash="0" * 64)
    assert driver.exit_code() == 10
    status = shop.stream.status()
    assert (status["phase"], status["failure_class"]) == ("failed", "deterministic")
    assert "headgate apply" in status["failure_message"]


def test_a_checkpoint_that_is_gone_while_its_tables_are_there_is_refused(shop):
    stream = shop.stream
    before = stream.versions()
    aside = stream.layout.folder.with_name("aside")
    stream.layout.folder.rename(aside)
    driver = stream.start()
    assert driver.exit_code() == 12
    status = stream.status()
    assert (status["phase"], status["failure_class"]) == ("failed", "checkpoint")
    assert f"the checkpoint of {stream.pipeline} is gone" in status["failure_message"]
    assert "restore" in status["failure_message"]
    assert stream.versions() == before
    shutil.rmtree(stream.layout.folder)
    aside.rename(stream.layout.folder)


def test_a_record_that_breaks_a_rule_of_fail_stops_the_stream_before_its_batch_is_written(applied):
    stream = applied["strict"]
    values = [{"at": f"2025-10-01 12:00:{n:02}", "value": n} for n in range(20)]
    values[7]["value"] = -7
    send(stream.settings, stream.frozen.topics["readings"], [json.dumps(v).encode() for v in values])
    driver = stream.start()
    assert driver.exit_code() == 10
    status = stream.status()
    assert (status["phase"], status["failure_class"]) == ("failed", "deterministic")
    topic = stream.frozen.topics["readings"]
    told = f"a record of source readings broke the rule never_negative: topic {topic}, partition "
    assert told in status["failure_message"]
    assert (stream.rows("copy"), stream.quarantined()) == ([], [])
    assert newest(stream.query(RECORDS) / "commits") is None
    # The stateful query runs beside: what it committed without the record, it would never get.
    assert stream.rows("total") == []
    assert newest(stream.query("total") / "commits") is None


def test_row_16_a_stream_of_nothing_but_poison_ends_with_its_reasons_and_goes_on_where_it_stopped(applied):
    stream = applied["poison"]
    poison = [b'{"id": null}' if number % 3 else b"not JSON" for number in range(6000)]
    topic = stream.frozen.topics["events"]
    send(stream.settings, topic, poison)
    driver = stream.start()
    assert driver.exit_code() == 10
    status = stream.status()
    assert (status["phase"], status["failure_class"]) == ("failed", "poison")
    told = status["failure_message"]
    assert "were quarantined: _missing_id " in told
    assert f"for example topic {topic}, partition 0, offset " in told
    assert f"headgate start {stream.pipeline}" in told
    total = stream.books().total
    assert 100 <= total.quarantined == total.read < 6000, "the rest stays in the topic"

    assert stream.start().exit_code() == 10, "nobody has seen to the cause"
    again = stream.books().total
    assert again.quarantined == again.read >= total.read + 100
    places = [row["offset"] for row in stream.quarantined()]
    assert sorted(places) == list(range(again.read)), "each one once, and none left out"


def lines_of_a_log(count: int, seed: int) -> tuple[list[bytes], Counter[tuple[datetime, str | None]], int]:
    """Lines up to two minutes out of order, a fiftieth without a readable time, some without a level."""
    chance = random.Random(seed)
    lines: list[bytes] = []
    expected: Counter[tuple[datetime, str | None]] = Counter()
    unreadable = 0
    for number in range(count):
        at = BASE + timedelta(seconds=number // 5 + chance.randrange(-120, 120))
        level = chance.choice(["INFO", "INFO", "WARN", "ERROR", None])
        text = f"{at:%Y-%m-%d %H:%M:%S} {level + ' ' if level else ''}request {number} took {number % 97} ms"
        if number % 50 == 49:
            text = chance.choice(["", "Traceback (most recent call last):", f"  {text}", text[5:], "�" * 3])
            unreadable += 1
        else:
            expected[(at.replace(second=0), level)] += 1
        lines.append(text.encode())
    return lines, expected, unreadable


def test_a_log_within_the_watermark_is_counted_line_by_line(applied):
    stream = applied["lines"]
    lines, expected, unreadable = lines_of_a_log(20_000, seed=41)
    send(stream.settings, stream.frozen.topics["lines"], lines)
    driver = stream.start()
    stream.until_drained()
    assert driver.stop() == 0
    found = {(row["minute"], row["level"]): row["lines"] for row in stream.rows("per_minute")}
    assert found == dict(expected)
    bad = stream.quarantined()
    assert {tuple(row["rules"]) for row in bad} == {("_no_event_time",)}
    assert len(bad) == unreadable
    assert sum(found.values()) + len(bad) == len(lines) == stream.books().total.read


def test_a_missing_topic_ends_with_a_clear_status(applied):
    stream = applied["lines"]
    with admin_client(stream.settings) as admin:
        admin.delete_topics([stream.frozen.topics["lines"]])
    driver = stream.start()
    assert driver.exit_code() == 10
    status = stream.status()
    assert status["phase"] == "failed"
    assert status["failure_class"] in {"data_loss", "dependency", "deterministic"}
    assert stream.frozen.topics["lines"] in status["failure_message"]


def test_the_frozen_contract_of_the_tests_is_what_they_say(applied):
    frozen: FrozenContract = applied["shop"].frozen
    assert frozen.record_outputs == ["sales", "returned"]
    assert frozen.stateful_outputs == ["per_minute"]
    assert Path(applied["shop"].settings.tables).is_relative_to(applied["shop"].settings.state)
