"""Real drivers that begin elsewhere: from a snapshot in both ways, and from given offsets.

The tests go on from one another: each starts where the one before has ended. Whatever was restored, the
tables, the quarantine and the books must be those of a stream that nobody ever disturbed.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from driver_process import Stream, end_offsets, send

from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import newest
from headgate.checkpoints.origin import Origin
from headgate.checkpoints.preflight import preflight
from headgate.checkpoints.restore import NEW_LINEAGE, SAME_BATCHES
from headgate.checkpoints.snapshots import Snapshot, read_snapshot, verify
from headgate.contract.loader import load_contracts
from headgate.contract.resolve import resolve
from headgate.settings import load_settings
from headgate.streams.operations import operations_of
from headgate.streams.store import StateStore
from headgate.streams.taking import take
from headgate.topics.apply import apply_plan
from headgate.topics.back import plan_restore
from headgate.topics.begin import plan_origin
from headgate.topics.plan import make_plan

pytestmark = pytest.mark.e2e

BASE = datetime(2025, 10, 1, tzinfo=UTC)
CONTRACT = """\
headgate: 1
pipeline: rewind-PID
version: 1
owner: tests
sources:
  orders:
    topic: rewind-PID
    partitions: 2
    columns:
      - {name: at, type: timestamp, zone: UTC, required: true}
      - {name: amount, type: int, required: true}
    event_time: {column: at, watermark: 1 hour, max_future: 10 minutes}
    rules:
      - {name: positive, expect: amount > 0}
outputs:
  copy:
    sql: SELECT at, amount, _partition AS kafka_partition, _offset AS kafka_offset FROM orders
    to: [{delta: copy}]
  per_minute:
    sql: >-
      SELECT window.start AS minute, count(*) AS orders, sum(amount) AS amount
      FROM orders GROUP BY window(at, '1 minute')
    mode: update
    key: [minute]
    to: [{delta: per_minute}]
job: {trigger: 100 milliseconds, max_records_per_batch: 60, cores: 1, memory: 1g}
"""


@dataclass
class Rewind:
    stream: Stream
    good: list[tuple[datetime, int]] = field(default_factory=list)
    bad: list[bytes] = field(default_factory=list)

    def send(self, count: int) -> None:
        records = []
        for _ in range(count):
            number = len(self.good) + len(self.bad)
            at = BASE + timedelta(seconds=number)
            amount = -1 if number % 10 == 9 else number + 1
            record = json.dumps({"at": f"{at:%Y-%m-%d %H:%M:%S}", "amount": amount}).encode()
            records.append(record)
            if amount < 0:
                self.bad.append(record)
            else:
                self.good.append((at, amount))
        send(self.stream.settings, self.stream.frozen.topics["orders"], records, partitions=2)

    def snapshot(self) -> Snapshot:
        with closing(StateStore(self.stream.settings.store_url)) as store:
            taken = take(
                self.stream.settings, store, self.stream.pipeline, actor="cli:tests", reason="request"
            )
            assert next(each.state for each in operations_of(store, self.stream.pipeline)) == "done"
            return taken

    def check(self) -> None:
        """Everything that was sent is in its place, once."""
        rows = self.stream.rows("copy")
        places = [(row["kafka_partition"], row["kafka_offset"]) for row in rows]
        assert len(places) == len(set(places)), "a record is in the table twice"
        assert Counter((row["at"], row["amount"]) for row in rows) == Counter(self.good)
        assert Counter(row["value"] for row in self.stream.quarantined()) == Counter(self.bad)
        total = self.stream.books().total
        assert (total.good, total.quarantined) == (len(self.good), len(self.bad))
        minutes: dict[datetime, list[int]] = {}
        for at, amount in self.good:
            minutes.setdefault(at.replace(second=0), []).append(amount)
        found = {row["minute"]: (row["orders"], row["amount"]) for row in self.stream.rows("per_minute")}
        assert found == {minute: (len(amounts), sum(amounts)) for minute, amounts in minutes.items()}


@pytest.fixture(scope="module")
def rewind(service_environ: dict[str, str], broker: object, tmp_path_factory: Any) -> Iterator[Rewind]:
    root = tmp_path_factory.mktemp("rewind")
    environ = {
        **service_environ,
        "HEADGATE_ROOTS_STATE": str(root / "state"),
        "HEADGATE_SPARK_UI": "false",
        "HEADGATE_PIPELINES": str(root / "pipelines"),
    }
    settings, _ = load_settings(environ=environ)
    settings.pipelines_dir.mkdir(parents=True)
    (settings.pipelines_dir / "rewind.yaml").write_text(CONTRACT.replace("PID", str(abs(hash(root)))[:8]))
    (frozen,) = resolve(load_contracts(settings.pipelines_dir), settings)
    apply_plan(settings, make_plan(settings, [frozen]), by="tests")
    stream = Stream(environ, frozen)
    yield Rewind(stream)
    stream.end()


@pytest.fixture(autouse=True)
def no_driver_outlives_its_test(rewind: Rewind) -> Iterator[None]:
    yield
    rewind.stream.end()


def test_a_snapshot_taken_while_the_stream_runs_is_restored_with_the_same_batches(rewind):
    stream = rewind.stream
    rewind.send(180)
    driver = stream.start(generation=1)
    stream.until(lambda: (newest(stream.query(RECORDS) / "commits") or 0) >= 1, "two batches")
    taken = rewind.snapshot()  # batches run meanwhile
    assert not verify(stream.settings.snapshots_root, taken)
    rewind.send(360)
    stream.until_drained()
    assert driver.stop() == 0
    rewind.check()
    lineage, before = stream.lineage, newest(stream.query(RECORDS) / "commits")
    versions = stream.versions()

    # The state is gone, and the topic has grown: a batch that were planned anew would have other records.
    shutil.rmtree(stream.query("per_minute") / "state")
    rewind.send(120)
    plan = plan_restore(stream.settings, stream.frozen, taken.id)
    assert (plan.origin.way, plan.problems) == (SAME_BATCHES, ())
    sent = len(rewind.good) + len(rewind.bad) - 120
    reading_again = sum(span.repeats for span in plan.spans if span.query == RECORDS)
    assert reading_again == sent - sum(taken.offsets[RECORDS][stream.frozen.topics["orders"]].values())
    origin = plan.origin
    driver = stream.start(generation=2, origin=origin)
    waiting = stream.layout.lineage(lineage) / "redo" / RECORDS
    stream.until(lambda: 0 < len(list(waiting.iterdir())) < before - taken.queries[RECORDS], "a batch again")
    driver.kill()

    stream.start(generation=2, origin=origin)
    stream.until_drained()
    assert stream.lineage == lineage
    assert (stream.layout.folder / f"{lineage}.before-2").is_dir()
    assert not list(waiting.iterdir())
    rewind.check()
    after = newest(stream.query(RECORDS) / "commits")
    assert after is not None
    assert before is not None
    assert after > before
    # What ran again was recognised: one commit for each batch that was new, and none for those before.
    assert stream.versions()["copy"] == versions["copy"] + after - before
    assert stream.drivers[-1].stop() == 0


def test_with_a_torn_log_a_new_lineage_begins_and_tables_go_back_to_the_snapshots_version(rewind):
    stream = rewind.stream
    rewind.send(120)
    # What the supervisor orders for a changed contract: a copy is taken before anything runs.
    before = newest(stream.query(RECORDS) / "commits")
    stream.start(generation=3, origin=Origin("checkpoint", keep="upgrade-3", contract=stream.frozen.hash))
    stream.until_running()
    stream.until_drained()
    taken = read_snapshot(stream.settings.snapshots_root, stream.pipeline, "upgrade-3")
    assert (taken.queries[RECORDS], taken.reason) == (before, "upgrade")
    assert list(taken.topics) == [stream.frozen.topics["orders"]]
    assert stream.drivers[-1].stop() == 0
    rewind.check()
    lineage = stream.lineage
    (stream.query(RECORDS) / "offsets" / str(taken.queries[RECORDS] + 1)).unlink()
    refused = stream.start(generation=4, origin=Origin("snapshot", snapshot=taken.id, way=SAME_BATCHES))
    assert refused.exit_code() == 12
    assert "cannot run the batches after the snapshot again" in refused.tail()

    rewind.send(100)
    plan = plan_restore(stream.settings, stream.frozen, taken.id)
    assert (plan.origin.way, plan.problems) == (NEW_LINEAGE, ())
    stream.start(generation=5, origin=plan.origin)
    stream.until_running()
    stream.until_drained()
    assert stream.lineage != lineage
    assert stream.layout.lineage(lineage).is_dir()
    rewind.check()
    assert stream.drivers[-1].stop() == 0


def test_row_10_a_damaged_state_file_is_refused_and_what_only_spark_can_see_ends_as_checkpoint(rewind):
    stream = rewind.stream
    store = stream.query("per_minute") / "state" / "0" / "0"
    newest_file = store / f"{(newest(stream.query('per_minute') / 'commits') or 0) + 1}.delta"
    sums = newest_file.with_name(f".{newest_file.name}.crc")
    newest_file.with_suffix(".snapshot").unlink(missing_ok=True)  # with one, its delta is not needed
    data, checksum, versions = newest_file.read_bytes(), sums.read_bytes(), stream.versions()

    def refused() -> list[str]:
        return [
            each.message for each in preflight(stream.settings, stream.frozen) if each.severity == "refuse"
        ]

    assert refused() == []
    newest_file.unlink()
    (told,) = refused()
    assert "the state of query per_minute cannot be loaded" in told
    assert f"{store} lacks version {newest_file.stem}" in told

    # As long as before, its blocks in order, and no checksum that would tell.
    sums.unlink()
    newest_file.write_bytes(data[:24] + bytes(255 - byte for byte in data[24:-21]) + data[-21:])
    assert refused() == []
    rewind.send(20)
    driver = stream.start(generation=5)
    assert driver.exit_code() == 10
    status = stream.status()
    assert (status["phase"], status["failure_class"]) == ("failed", "checkpoint"), status["failure_message"]
    assert stream.versions()["per_minute"] == versions["per_minute"]
    assert newest_file.is_file(), "nothing is deleted"

    newest_file.write_bytes(data)
    sums.write_bytes(checksum)
    stream.start(generation=5)
    stream.until_drained()
    rewind.check()
    assert stream.drivers[-1].stop() == 0


def test_given_offsets_begin_a_lineage_that_reads_from_there_in_every_query(rewind, tmp_path):
    stream = rewind.stream
    settings, frozen, topic = stream.settings, stream.frozen, stream.frozen.topics["orders"]
    before = Counter((r["kafka_partition"], r["kafka_offset"]) for r in stream.rows("copy"))
    ends = end_offsets(settings, [topic])[topic]
    earliest, latest = (plan_origin(settings, frozen, kind) for kind in ("earliest", "latest"))
    assert (earliest.origin.offsets, latest.origin.offsets) == ({topic: {0: 0, 1: 0}}, {topic: ends})
    assert (latest.repeats, latest.loses, earliest.loses) == (0, 0, 0)
    assert plan_origin(settings, frozen, "timestamp", timestamp="2020-01-01").origin.offsets == {
        topic: {0: 0, 1: 0}
    }
    begin = {0: ends[0] - 40, 1: ends[1] - 30}
    wanted = tmp_path / "offsets.json"
    wanted.write_text(json.dumps({topic: begin}))
    plan = plan_origin(settings, frozen, "offsets", offsets=wanted)
    assert (plan.repeats, plan.loses, plan.problems) == (140, 0, ())
    assert {effect.table for effect in plan.effects if effect.doubles} == {"copy", "_quarantine"}

    stream.start(generation=6, origin=plan.origin)
    stream.until_running()
    stream.until_drained()
    assert stream.drivers[-1].stop() == 0
    after = Counter((r["kafka_partition"], r["kafka_offset"]) for r in stream.rows("copy"))
    assert after - before == Counter(place for place in before if place[1] >= begin[place[0]])
    assert after.total() > before.total()
    for query in (RECORDS, "per_minute"):
        noted = (stream.query(query) / "sources" / "orders" / "0").read_text().partition("\n")[2]
        assert json.loads(noted) == {topic: {str(number): offset for number, offset in begin.items()}}
