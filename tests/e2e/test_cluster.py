"""The same contract on a real standalone cluster: an executor and a worker die, the stream goes on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driver_process import Stream, send
from small_contract import KINDS, record, small_contract
from spark_cluster import Cluster

from headgate.arrow.choice import record_lane, stateful_lane
from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import newest
from headgate.contract.frozen import with_lane
from headgate.settings import load_settings
from headgate.topics.apply import apply_plan
from headgate.topics.plan import make_plan

PART = 3_000
# Small batches, so that what dies dies in the middle of something.
JOB = {
    "trigger": "500 milliseconds",
    "max_records_per_batch": 1_000,
    "cores": 2,
    "memory": "1g",
    "spark": {"spark.executor.memory": "512m"},
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = Cluster(folder)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture(params=["jvm", "arrow"])
def stream(
    request: pytest.FixtureRequest,
    service_environ: dict[str, str],
    broker: Any,
    cluster: Cluster,
    tmp_path: Path,
) -> Iterator[Stream]:
    environ = {
        **service_environ,
        "HEADGATE_ROOTS_STATE": str(tmp_path / "state"),
        "HEADGATE_SPARK_UI": "false",
        "HEADGATE_SPARK_MASTER": cluster.url,
    }
    settings, _ = load_settings(environ=environ)
    lane = request.param
    said = small_contract(f"cluster-{lane}-{os.getpid()}", job={**JOB, "lane": lane})
    frozen = with_lane(said, None, {"counts": lane})
    assert (record_lane(frozen).lane, stateful_lane(frozen, "counts").lane) == (lane, lane)
    apply_plan(settings, make_plan(settings, [frozen]), by="tests")
    made = Stream(environ, frozen)
    try:
        yield made
    finally:
        made.end()


def batches(stream: Stream) -> int:
    committed = newest(stream.query(RECORDS) / "commits")
    return -1 if committed is None else committed


def feed(stream: Stream, part: int) -> None:
    topic = stream.frozen.topics["events"]
    send(stream.settings, topic, [record(part * PART + n) for n in range(PART)], partitions=4)


def test_an_executor_and_a_worker_die_and_the_same_driver_loses_and_doubles_nothing(
    cluster: Cluster, stream: Stream
) -> None:
    feed(stream, 0)
    driver = stream.start()
    stream.until(lambda: batches(stream) >= 1, "two batches on the cluster")
    first = stream.until(cluster.executors, "executors on the workers")

    feed(stream, 1)
    first[0].kill()
    before = batches(stream)
    stream.until(lambda: batches(stream) >= before + 2, "batches after an executor was killed")
    stream.until(lambda: len(cluster.executors()) == 2, "another executor in its place")

    feed(stream, 2)
    cluster.executors()
    cluster.workers[0].kill()
    stream.until_drained()
    status = stream.status()
    assert (status["epoch"], status["pid"], status["phase"]) == (1, driver.process.pid, "running")
    assert driver.stop() == 0

    total = 3 * PART
    assert Counter(row["id"] for row in stream.rows("rows")) == Counter(range(total)), "each id once"
    counted = {row["kind"]: row["n"] for row in stream.rows("counts")}
    assert counted == Counter(f"k{n % KINDS}" for n in range(total))
    assert (stream.books().total.read, stream.books().total.good) == (total, total)
    commits = sorted(int(p.name) for p in (stream.query(RECORDS) / "commits").iterdir() if p.name.isdigit())
    assert commits == list(range(commits[-1] + 1)), "batch ids without a gap"
