"""A past range replayed beside a live stream, with real drivers, a real broker and the command line."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from driver_process import Stream, send
from live_installation import headgate, live_installation
from supervised import until

from headgate import __version__
from headgate.checkpoints.logs import newest
from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.replays.model import ReplayLayout
from headgate.replays.select import windows_of
from headgate.replays.spans import MICROS
from headgate.streams import processes

BASE = datetime(2025, 10, 1, tzinfo=UTC)
SECONDS = 600.0
FIRST, LAST = 100, 400  # of both partitions: the records 200 to 799, one for each second


def contract(pipeline: str) -> FrozenContract:
    source = {
        "topic": pipeline,
        "partitions": 2,
        "columns": [
            {"name": "at", "type": "timestamp", "zone": "UTC", "required": True},
            {"name": "amount", "type": "int", "required": True},
        ],
        "event_time": {"column": "at", "watermark": "1 minute"},
        "rules": [{"name": "positive", "expect": "amount > 0"}],
    }
    copy = "SELECT at, amount, _partition AS part, _offset AS place FROM orders"
    minutes = (
        "SELECT window.start AS minute, count(*) AS orders, sum(amount) AS amount "
        "FROM orders GROUP BY window(at, '1 minute')"
    )
    made = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": pipeline,
            "version": 1,
            "owner": "tests",
            "sources": {"orders": source},
            "outputs": {
                "copy": {"sql": copy, "to": [{"delta": "copy"}]},
                "per_minute": {
                    "sql": minutes,
                    "mode": "update",
                    "key": ["minute"],
                    "to": [{"delta": "per_minute"}],
                },
            },
            "job": {"trigger": "300 milliseconds", "max_records_per_batch": 100, "cores": 1, "memory": "1g"},
        }
    )
    outputs = {
        "copy": ResolvedOutput(False, schema(at="timestamp", amount="integer", part="integer", place="long")),
        "per_minute": ResolvedOutput(
            True,
            schema(minute="timestamp", orders="long", amount="long"),
            event_time="minute",
            window_seconds=60.0,
            count_column="orders",
        ),
    }
    return freeze(
        made,
        topics={"orders": pipeline},
        replication=1,
        outputs=outputs,
        env="local",
        headgate_version=__version__,
    )


def schema(**types: str) -> dict[str, Any]:
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in types.items()]
    return {"type": "struct", "fields": fields}


@dataclass
class Place:
    """An installation with its supervisor, a live stream and what was sent to it."""

    stream: Stream
    good: list[tuple[datetime, int]] = field(default_factory=list)
    bad: list[bytes] = field(default_factory=list)

    @property
    def pipeline(self) -> str:
        return self.stream.pipeline

    def headgate(self, *arguments: str, code: int = 0) -> Any:
        done = headgate(self.stream, *arguments, code=code)
        return json.loads(done.stdout) if "--json" in arguments else done

    def send(self, count: int) -> None:
        records = []
        for number in range(len(self.good) + len(self.bad), len(self.good) + len(self.bad) + count):
            at = BASE + timedelta(seconds=number)
            amount = -1 if number % 10 == 9 else number + 1
            records.append(json.dumps({"at": f"{at:%Y-%m-%d %H:%M:%S}", "amount": amount}).encode())
            if amount < 0:
                self.bad.append(records[-1])
            else:
                self.good.append((at, amount))
        send(self.stream.settings, self.stream.frozen.topics["orders"], records, partitions=2)

    def drained(self) -> None:
        def read() -> bool:
            try:
                return self.stream.drained()
            except (OSError, AssertionError):
                return False

        until("every query has read its topic to the end", read, seconds=SECONDS)

    def spoil(self) -> None:
        """What a mistake of the past may have left in the live tables."""
        root = self.stream.settings.tables / self.pipeline
        DeltaTable(str(root / "copy")).delete("amount >= 300 AND amount < 310")
        fifth = int((BASE + timedelta(minutes=5)).timestamp()) * MICROS
        DeltaTable(str(root / "per_minute")).update(
            updates={"amount": "0"}, predicate=windows_of("minute", [(fifth, fifth)]).predicate
        )

    def check(self) -> None:
        """Everything that was sent is in its place, once."""
        rows = self.stream.rows("copy")
        assert len({(row["part"], row["place"]) for row in rows}) == len(rows)
        assert Counter((row["at"], row["amount"]) for row in rows) == Counter(self.good)
        assert Counter(row["value"] for row in self.stream.quarantined()) == Counter(self.bad)
        minutes: dict[datetime, list[int]] = {}
        for at, amount in self.good:
            minutes.setdefault(at.replace(second=0), []).append(amount)
        found = {row["minute"]: (row["orders"], row["amount"]) for row in self.stream.rows("per_minute")}
        assert found == {minute: (len(amounts), sum(amounts)) for minute, amounts in minutes.items()}


@pytest.fixture
def place(service_environ: dict[str, str], broker: Any, tmp_path: Path) -> Iterator[Place]:
    with live_installation(tmp_path, service_environ, contract(f"again-{os.getpid()}")) as live:
        yield Place(live.stream)


def offsets(path: Path, topic: str, offset: int) -> str:
    path.write_text(json.dumps({topic: {"0": offset, "1": offset}}))
    return f"offsets={path}"


def counts(compared: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    names = ("same", "only_live", "only_replay", "differing")
    return {each["table"]: (*(each["difference"][name] for name in names), each["kept"]) for each in compared}


def test_row_26_a_replay_beside_the_live_stream_is_compared_and_swapped_in_exactly(place, tmp_path):
    topic, settings = place.stream.frozen.topics["orders"], place.stream.settings
    place.send(1200)
    place.headgate("start", place.pipeline, "--wait", "400")
    place.drained()
    place.check()
    place.spoil()
    lineage, versions = place.stream.lineage, place.stream.versions()

    begin, end = (offsets(tmp_path / f"{n}.json", topic, n) for n in (FIRST, LAST))
    asked = ("replay", "start", place.pipeline, "--from", begin, "--to", end, "--json")
    refused = place.headgate(*asked, code=3)
    assert (refused["records"], refused["problems"]) == (2 * (LAST - FIRST), [])
    replay = place.headgate(*asked, "--yes")["id"]
    own = ReplayLayout(settings.state, place.pipeline, replay)

    def committed() -> int:
        current = own.checkpoints.current_lineage()
        last = newest(own.checkpoints.query(current, "records") / "commits") if current else None
        return -1 if last is None else last

    until("a batch of the replay", lambda: committed() >= 0, seconds=SECONDS)
    assert processes.kill_all(processes.nonce_prefix(own.folder)) > 0
    assert committed() < 5, "it was killed before its end"
    # The live stream has not been touched, and goes on.
    assert place.stream.versions() == versions
    place.send(300)

    def ended() -> bool:
        found = place.headgate("replay", "status", replay, "--json")
        assert found["state"] in ("running", "done"), found
        return bool(found["state"] == "done")

    until("the replay at the end of its range", ended, seconds=SECONDS)
    assert sorted(int(path.name) for path in own.checkpoints.owners.iterdir())[-1] >= 2
    place.drained()
    assert place.stream.lineage == lineage
    assert [path.name for path in place.stream.layout.owners.iterdir()] == ["1"]

    # When the bad records of the range happened, which a swap may need to know.
    times = ds.dataset(own.judged, format="parquet").to_table().to_pylist()
    assert {(each["source"], each["topic"]) for each in times} == {("orders", topic)}
    bad = [int((BASE + timedelta(seconds=n)).timestamp()) * MICROS for n in range(209, 800, 10)]
    assert sorted(each["at"] for each in times) == bad

    # Minutes 4 to 12 lie wholly in the range; the replay has a part of two more.
    compared = place.headgate("replay", "compare", replay, "--json", code=2)
    assert counts(compared) == {
        "copy": (531, 0, 9, 0, 0),
        "per_minute": (8, 0, 0, 1, 2),
        "_quarantine": (60, 0, 0, 0, 0),
    }
    place.headgate("replay", "swap", replay, code=3)
    place.headgate("replay", "swap", replay, "--yes", "--wait", "400")
    place.send(60)
    place.drained()
    place.check()
    assert place.stream.lineage == lineage
    assert counts(place.headgate("replay", "compare", replay, "--json"))["per_minute"] == (9, 0, 0, 0, 2)
    assert place.headgate("audit", place.pipeline, "--json")["balanced"]

    place.headgate("replay", "discard", replay, code=3)
    place.headgate("replay", "discard", replay, "--yes")
    assert not own.tables.exists()
    (listed,) = place.headgate("replay", "list", place.pipeline, "--json")
    assert (listed["replay"]["id"], listed["state"]) == (replay, "discarded")
    place.check()
