from __future__ import annotations

import calendar
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition

from headgate.checkpoints.layout import CheckpointLayout
from headgate.settings import Settings
from headgate.topics.kafka import admin_client, consumer_client
from producers import session as sessions
from producers.core import Producer
from producers.metrics import ProducerMetrics
from producers.records import Framed, frames
from producers.spool import Spool

CONTRACT = """\
headgate: 1
pipeline: {pipeline}
version: 1
owner: tests
sources:
  lines:
    topic: {pipeline}
    partitions: 3
    format: text
    pattern: '(?<time>\\d{{4}}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d)'
    columns: [{{name: time, type: timestamp, zone: UTC}}]
    event_time: {{column: time}}
outputs:
  counts:
    sql: SELECT time, count(*) AS lines FROM lines GROUP BY time
    mode: update
    key: [time]
    to: [{{delta: counts}}]
"""


@dataclass(frozen=True)
class Stream:
    """A pipeline with a topic and a contract of its own, and the command for it."""

    pipeline: str
    settings: Settings
    environ: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def topic(self) -> str:
        return self.pipeline

    @property
    def spool(self) -> Path:
        return self.settings.state / "spool" / self.pipeline / "lines"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        headgate = str(Path(sys.executable).with_name("headgate"))
        process = subprocess.Popen(
            [headgate, "produce", self.pipeline, "--json", *arguments],
            env={**os.environ, **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """Leave no process behind a test that failed."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def run(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        return ended(self.start(*arguments))

    def arrived(self) -> int:
        """How many records the topic has; fails when the producer that should bring them has ended."""
        for process in self.started:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
        with consumer_client(self.settings) as consumer:
            return sum(consumer.end_offsets([TopicPartition(self.topic, n) for n in range(3)]).values())

    def received(self) -> list[Any]:
        """All records of the topic, by partition and offset."""
        with consumer_client(self.settings, auto_offset_reset="earliest") as consumer:
            partitions = [TopicPartition(self.topic, number) for number in range(3)]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            consumer.seek_to_beginning(*partitions)
            records: list[Any] = []
            deadline = time.monotonic() + 120
            while any(consumer.position(tp) < ends[tp] for tp in partitions):
                assert time.monotonic() < deadline, "the topic could not be read"
                for batch in consumer.poll(timeout_ms=500).values():
                    records.extend(batch)
            return sorted(records, key=lambda record: (record.partition, record.offset))


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    out, err = process.communicate(timeout=240)
    return process.returncode, json.loads(out) if out.strip() else {}, err


def values(records: list[Any]) -> list[bytes]:
    return [record.value for record in records]


def identities(records: list[Any]) -> list[bytes]:
    return [dict(record.headers)["headgate.id"] for record in records]


@pytest.fixture
def stream(
    broker: Any,
    service_environ: dict[str, str],
    service_settings: Settings,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Stream]:
    pipeline = f"produce-{abs(hash(request.node.name)) % 10**8}"
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "one.yaml").write_text(CONTRACT.format(pipeline=pipeline), encoding="utf-8")
    environ = {**service_environ, "HEADGATE_PIPELINES": str(tmp_path / "contracts")}
    with admin_client(service_settings) as admin:
        admin.create_topics({pipeline: {"num_partitions": 3, "replication_factor": 1}})
    made = Stream(pipeline, service_settings, environ)
    yield made
    made.end()
    gc.collect()  # sockets of refused connections go while the filter for them is on
    if broker.process is None:
        broker.start()


def a_log(path: Path, lines: int) -> list[bytes]:
    content = [
        f"2023-10-01 {i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d} line {i}".encode()
        for i in range(lines)
    ]
    path.write_bytes(b"\n".join(content) + b"\n")
    return content


def test_a_file_arrives_whole_and_in_its_order(stream: Stream, tmp_path: Path) -> None:
    sent = a_log(tmp_path / "big.log", 100_000)
    code, summary, said = stream.run("--from-file", str(tmp_path / "big.log"))
    assert (code, summary["sent"], summary["delivered"], summary["spooled"]) == (0, 100_000, 100_000, 0), said
    records = stream.received()
    assert values(records) == sent
    assert {record.partition for record in records} == {records[0].partition}
    assert {record.key for record in records} == {b"big.log"}


def test_a_line_arrives_as_the_bytes_it_is(stream: Stream, tmp_path: Path) -> None:
    (tmp_path / "odd.log").write_bytes(b"\xff\xfe caf\xe9\r\n\n 2023-10-01 12:00:00 \xf0\x9f\x98\x80 \nlast")
    assert stream.run("--from-file", str(tmp_path / "odd.log"))[0] == 0
    assert values(stream.received()) == [
        b"\xff\xfe caf\xe9",
        b"",
        b" 2023-10-01 12:00:00 \xf0\x9f\x98\x80 ",
        b"last",
    ]


def test_a_broker_that_is_killed_and_returns_gets_every_record_once(
    stream: Stream, broker: Any, tmp_path: Path, poll_until: Callable[..., Any]
) -> None:
    sent = a_log(tmp_path / "slow.log", 600)
    process = stream.start("--from-file", str(tmp_path / "slow.log"), "--rate", "100", "--wait", "180")
    poll_until(lambda: stream.arrived() > 100, 180, "the first records arrive")
    broker.kill()
    time.sleep(2)
    broker.start()
    code, summary, said = ended(process)
    assert (code, summary["delivered"], summary["spooled"]) == (0, 600, 0), said
    records = stream.received()
    assert values(records) == sent
    assert len(set(identities(records))) == 600


def test_sigterm_delivers_what_was_sent(stream: Stream, poll_until: Callable[..., Any]) -> None:
    process = stream.start("--rate", "300")
    poll_until(lambda: stream.arrived() > 200, 180, "the first records arrive")
    (note,) = (stream.settings.state / "producers").glob(f"{stream.pipeline}-lines-*.json")
    port = json.loads(note.read_text(encoding="utf-8"))["metrics_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    for outcome, zero in (("acked", False), ("spooled", True), ("refused", True)):
        labels = f'{{outcome="{outcome}",pipeline="{stream.pipeline}"}}'
        assert (f"headgate_producer_records_total{labels} 0.0" in metrics) is zero
    assert "headgate_producer_delivery_duration_seconds_bucket" in metrics
    process.send_signal(signal.SIGTERM)
    code, summary, _ = ended(process)
    assert not note.exists()
    assert (code, summary["stopped"], summary["spooled"]) == (0, True, 0)
    assert summary["sent"] == summary["delivered"] == len(stream.received())
    assert not list(stream.spool.rglob("*.seg"))


def test_sigterm_without_a_broker_keeps_everything_and_the_next_start_sends_it(
    stream: Stream, broker: Any, poll_until: Callable[..., Any]
) -> None:
    process = stream.start("--rate", "50")
    poll_until(lambda: stream.arrived() > 20, 180, "the first records arrive")
    broker.kill()
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    code, first, _ = ended(process)
    assert (code, first["stopped"]) == (0, True)
    assert first["sent"] == first["delivered"] + first["spooled"]
    assert first["spooled"] > 0
    broker.start()
    code, second, said = stream.run("--count", "5")
    assert (code, second["found"], second["sent"], second["spooled"]) == (0, first["spooled"], 5, 0), said
    assert second["resent"] == first["spooled"]
    records = stream.received()
    assert len(set(identities(records))) == first["sent"] + 5
    assert not list(stream.spool.rglob("*.seg"))


def test_without_a_broker_a_file_ends_in_the_spool_and_can_be_flushed(
    stream: Stream, broker: Any, tmp_path: Path
) -> None:
    sent = a_log(tmp_path / "away.log", 5_000)
    broker.kill()
    code, summary, said = stream.run("--from-file", str(tmp_path / "away.log"), "--wait", "1")
    assert (code, summary["sent"], summary["delivered"], summary["spooled"]) == (69, 5_000, 0, 5_000)
    assert f"headgate produce {stream.pipeline} --flush-spool" in said
    assert "does not answer" in said
    code, _, _ = stream.run("--flush-spool", "--wait", "1")
    assert code == 69
    broker.start()
    code, summary, said = stream.run("--flush-spool")
    assert (code, summary["resent"], summary["spooled"]) == (0, 5_000, 0), said
    assert values(stream.received()) == sent


def test_a_full_spool_says_where_the_file_was_left(stream: Stream, broker: Any, tmp_path: Path) -> None:
    (tmp_path / "fat.log").write_bytes((b"x" * 10_000 + b"\n") * 300)
    broker.kill()
    code, _, said = stream.run("--from-file", str(tmp_path / "fat.log"), "--wait", "1", "--spool-limit", "1")
    broker.start()
    assert code == 69
    assert "is full" in said
    assert "from its record 1" in said
    assert "Traceback" not in said
    code, summary, _ = stream.run("--flush-spool")
    assert (code, summary["spooled"]) == (0, 0)
    assert len(stream.received()) == summary["resent"] < 300


def test_an_outage_longer_than_the_client_waits_keeps_the_order(
    stream: Stream, broker: Any, monkeypatch: pytest.MonkeyPatch, poll_until: Callable[..., Any]
) -> None:
    usual = sessions.delivery_options

    def impatient(max_request_size: int) -> dict[str, Any]:
        return {**usual(max_request_size), "delivery_timeout_ms": 2_000, "request_timeout_ms": 1_000}

    monkeypatch.setattr(sessions, "delivery_options", impatient)
    metrics = ProducerMetrics(stream.pipeline)
    said: list[str] = []
    producer = Producer(
        lambda: sessions.connect(
            stream.settings,
            stream.topic,
            pipeline=stream.pipeline,
            max_request_size=1_000_000,
            observe=metrics.observe,
        ),
        Spool(stream.spool, report=said.append),
        metrics,
        say=said.append,
    )
    numbers = iter(range(1_000_000))

    def send(count: int) -> None:
        for _ in range(count):
            producer.send(b"%d" % next(numbers), b"key")
        producer.poll()

    def spooling() -> bool:
        send(20)
        return producer.counts.spooled > 0 and not producer.online

    send(500)
    assert producer.flush(30)
    broker.kill()
    poll_until(spooling, 180, "records go to the spool")
    send(500)
    broker.start()
    assert producer.flush(180), said
    send(100)
    counts = producer.close(20)
    assert counts.delivered == counts.sent == next(numbers)
    assert (counts.spooled, counts.found) == (0, 0)
    assert counts.resent >= 500
    first_times = list(dict.fromkeys(values(stream.received())))
    assert first_times == [b"%d" % number for number in range(counts.sent)]
    text = metrics.registry.get_sample_value(
        "headgate_producer_records_total", {"pipeline": stream.pipeline, "outcome": "resent"}
    )
    assert text == counts.resent


def test_a_record_that_kafka_never_takes_is_kept_apart_and_the_others_go_on(
    stream: Stream, tmp_path: Path
) -> None:
    metrics = ProducerMetrics(stream.pipeline)
    said: list[str] = []
    with Producer(
        lambda: sessions.connect(
            stream.settings,
            stream.topic,
            pipeline=stream.pipeline,
            max_request_size=100_000,
            observe=metrics.observe,
        ),
        Spool(tmp_path / "spool", report=said.append),
        metrics,
        say=said.append,
    ) as producer:
        producer.poll()
        for size in (10, 200_000, 20):
            producer.send(b"x" * size)
        assert producer.flush(30)
        assert (producer.counts.delivered, producer.counts.refused) == (2, 1)
    assert [len(value) for value in values(stream.received())] == [10, 20] or len(stream.received()) == 2
    (kept,) = (tmp_path / "spool").rglob("refused.seg")
    (item,) = frames(memoryview(kept.read_bytes()), 0)
    assert isinstance(item, Framed)
    assert len(item.record.value) == 200_000


def test_a_missing_topic_is_never_created(stream: Stream) -> None:
    with admin_client(stream.settings) as admin:
        admin.delete_topics([stream.topic])
    code, _, said = stream.run("--count", "1", "--wait", "1")
    assert code == 4
    assert f"headgate apply {stream.pipeline}" in said
    with admin_client(stream.settings) as admin:
        assert stream.topic not in [item["name"] for item in admin.describe_topics()]


def _watermark(stream: Stream, milliseconds: int) -> None:
    """What Spark leaves behind after a batch of the query `counts`."""
    layout = CheckpointLayout(stream.settings.checkpoints, stream.pipeline)
    query = layout.query("l1", "counts")
    (query / "offsets").mkdir(parents=True)
    (query / "commits").mkdir()
    layout.current.write_text("l1\n", encoding="utf-8")
    metadata = {"batchWatermarkMs": milliseconds, "batchTimestampMs": milliseconds, "conf": {}}
    offsets = {stream.topic: {"0": 1, "1": 0, "2": 0}}
    (query / "offsets" / "0").write_text(
        f"v1\n{json.dumps(metadata)}\n{json.dumps(offsets)}", encoding="utf-8"
    )
    commit = {"nextBatchWatermarkMs": milliseconds}
    (query / "commits" / "0").write_text(f"v1\n{json.dumps(commit)}", encoding="utf-8")


def test_a_file_behind_the_watermark_is_refused_with_the_choices(stream: Stream, tmp_path: Path) -> None:
    a_log(tmp_path / "old.log", 100)
    _watermark(stream, 1_700_000_000_000)
    code, _, said = stream.run("--from-file", str(tmp_path / "old.log"))
    assert code == 3
    for part in (
        "all records",
        "2023-10-01 00:00:00 UTC to 2023-10-01 00:01:39 UTC",
        "2023-11-14 22:13:20 UTC",
        "--shift-to-now",
        "--late-ok",
        "a pipeline of its own",
    ):
        assert part in said
    assert stream.received() == []

    code, summary, _ = stream.run("--from-file", str(tmp_path / "old.log"), "--late-ok")
    assert (code, summary["delivered"]) == (0, 100)


def test_a_shifted_file_ends_now_and_keeps_its_distances(stream: Stream, tmp_path: Path) -> None:
    sent = a_log(tmp_path / "old.log", 100)
    _watermark(stream, 1_700_000_000_000)
    begun = time.time()
    code, _, said = stream.run("--from-file", str(tmp_path / "old.log"), "--shift-to-now")
    assert code == 0, said
    lines = values(stream.received())
    assert [line[19:] for line in lines] == [line[19:] for line in sent]
    times = [calendar.timegm(time.strptime(line[:19].decode(), "%Y-%m-%d %H:%M:%S")) for line in lines]
    assert [b - a for a, b in itertools.pairwise(times)] == [1] * 99
    assert begun - 5 <= times[-1] <= time.time()
