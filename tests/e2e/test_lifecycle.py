"""One stream from start to retirement, with a real driver, a real broker and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from driver_process import Stream, end_offsets, send
from kafka import TopicPartition
from live_installation import SECONDS, headgate, live_installation
from small_contract import record, small_contract
from supervised import until

from headgate.checkpoints.logs import committed_offsets
from headgate.contract.frozen import ContractStore
from headgate.streams.client import SupervisorClient
from headgate.streams.model import FailureClass, Phase
from headgate.topics.apply import apply_plan
from headgate.topics.kafka import admin_client
from headgate.topics.plan import make_plan

JOB = {"trigger": "500 milliseconds", "max_records_per_batch": 500, "cores": 1, "memory": "1g"}


@dataclass
class Place:
    """An installation with its supervisor and one applied contract."""

    stream: Stream
    client: SupervisorClient
    supervisor: subprocess.Popen[bytes]

    @property
    def pipeline(self) -> str:
        return self.stream.pipeline

    @property
    def topic(self) -> str:
        return self.stream.frozen.topics["events"]

    def headgate(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return headgate(self.stream, *arguments, code=code)

    def in_phase(self, phase: Phase) -> Any:
        def look() -> Any:
            status = self.client.status(self.pipeline)
            return status if status.phase is phase else None

        return until(f"{self.pipeline} {phase}", look, seconds=SECONDS)


@pytest.fixture
def place(service_environ: dict[str, str], broker: Any, tmp_path: Path) -> Iterator[Place]:
    frozen = small_contract(f"life-{os.getpid()}", job=JOB, partitions=2)
    with live_installation(tmp_path, service_environ, frozen) as live:
        yield Place(live.stream, live.client, live.supervisor)


def producing(place: Place, begin: int) -> Callable[[], int]:
    """Records that keep coming; the answer ends them and says how many there were."""
    over, sent = threading.Event(), [begin]

    def run() -> None:
        while not over.wait(0.1):
            send(place.stream.settings, place.topic, [record(sent[0] + n) for n in range(20)], partitions=2)
            sent[0] += 20

    thread = threading.Thread(target=run)
    thread.start()

    def end() -> int:
        over.set()
        thread.join()
        return sent[0]

    return end


def test_a_stream_drains_is_refused_after_its_records_were_lost_and_retires(place: Place) -> None:
    settings = place.stream.settings
    send(settings, place.topic, [record(n) for n in range(2_000)], partitions=2)
    assert json.loads(place.headgate("preflight", place.pipeline, "--json").stdout)["may_start"] is True
    place.headgate("start", place.pipeline, "--wait", "240")

    end = producing(place, 2_000)
    held = end_offsets(settings, [place.topic])[place.topic]
    drained = place.headgate("stop", place.pipeline, "--drain", "--deadline", "240")
    total = end()
    assert "the running batch was committed" in drained.stderr
    for query in ("records", "counts"):
        committed = committed_offsets(place.stream.query(query))
        assert committed is not None
        read = committed.offsets[place.topic]
        assert all(read[partition] >= offset for partition, offset in held.items())
    ids = Counter(row["id"] for row in place.stream.rows("rows"))
    assert set(ids.values()) == {1}
    assert len(ids) >= 2_000
    assert [each.kind for each in place.client.events(place.pipeline)].count("drained") == 1

    # What is left is taken by retention before it is read.
    assert total > len(ids) or not send(settings, place.topic, [record(total)] * 4, partitions=2)
    ends = end_offsets(settings, [place.topic])[place.topic]
    with admin_client(settings) as admin:
        admin.delete_records({TopicPartition(place.topic, n): offset for n, offset in ends.items()})
    refused = place.headgate("preflight", place.pipeline, code=3)
    assert "retention_passed" in refused.stdout
    assert f"headgate restart {place.pipeline} --from earliest" in refused.stdout
    place.headgate("start", place.pipeline, "--wait", "120", code=1)
    parked = place.in_phase(Phase.PARKED)
    assert (parked.failure_class, parked.epoch) == (FailureClass.DATA_LOSS, 1)
    assert "retention took" in parked.reason

    told = place.headgate("retire", place.pipeline, code=3)
    assert "stays: its topics" in told.stderr
    place.headgate("retire", place.pipeline, "--yes", "--reason", "the test ends")
    assert place.client.status(place.pipeline).phase is Phase.RETIRED
    assert place.pipeline not in ContractStore(settings.state).applied()
    place.headgate("start", place.pipeline, code=4)
    assert place.stream.rows("rows")
    apply_plan(settings, make_plan(settings, [place.stream.frozen]), by="tests")
    assert place.in_phase(Phase.STOPPED).reason == "its contract was applied anew"
