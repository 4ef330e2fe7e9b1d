"""A live stream and a replay of it on disk, as their drivers leave them: checkpoints, tables and notes.

The stream has read 100 records of one partition, one per second from BASE on; every tenth is bad. The
replay has the records 20 to 80. Rows of the live tables can be spoiled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import begin_lineage, note_contract
from headgate.contract.frozen import ContractStore, FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.replays.evidence import Evidence, OutputEvidence
from headgate.replays.model import Replay, ReplayLayout, write_note
from headgate.replays.spans import MICROS
from headgate.settings import Settings

__all__ = ["BASE", "ReplayWorld", "contract", "make_world", "micros"]

BASE = datetime(2025, 10, 1, tzinfo=UTC)
RECORDS, FIRST, LAST = 100, 20, 80
_TIME = pa.timestamp("us", tz="UTC")
_COPY = pa.schema([("at", _TIME), ("amount", pa.int32()), ("part", pa.int32()), ("place", pa.int64())])
_TENS = pa.schema([("ten", _TIME), ("n", pa.int64()), ("mean", pa.float64())])
_BAD = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("source", pa.string()),
        ("lineage", pa.string()),
    ]
)
_JUDGED = pa.schema([*list(_BAD)[:4], ("at", pa.int64())])
COPY_SQL = "SELECT at, amount, _partition AS part, _offset AS place FROM orders"
TENS_SQL = (
    "SELECT window.start AS ten, count(*) AS n, avg(amount) AS mean "
    "FROM orders GROUP BY window(at, '10 seconds')"
)


def contract(
    copy: str = COPY_SQL,
    tens: str = TENS_SQL,
    *,
    version: int = 1,
    at: Mapping[str, Any] | None = None,
    beside: str = "",
    **more: Any,
) -> FrozenContract:
    """`at` is more of the event time's column, `beside` another source."""
    columns = [
        {"name": "at", "type": "timestamp", "required": True, **(at or {})},
        {"name": "amount", "type": "int"},
    ]
    source = {"topic": "orders", "columns": columns, "event_time": {"column": "at", "watermark": "1 second"}}
    sources = {"orders": source, **({beside: {**source, "topic": beside}} if beside else {})}
    outputs = {
        "copy": {"sql": copy, "to": [{"delta": "copy"}]},
        "tens": {"sql": tens, "mode": "update", "key": ["ten"], "to": [{"delta": "tens"}]},
    }
    made = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": "shop",
            "version": version,
            "owner": "tests",
            "sources": sources,
            "outputs": {**outputs, **more},
        }
    )
    copied = schema(at="timestamp", amount="integer", part="integer", place="long")
    grouped = schema(ten="timestamp", n="long", mean="double")
    resolved = {
        "copy": ResolvedOutput(False, copied),
        "tens": ResolvedOutput(True, grouped, event_time="ten", window_seconds=10.0),
        **{name: ResolvedOutput(True, grouped) for name in more},
    }
    return freeze(
        made,
        topics={name: name for name in sources},
        replication=1,
        outputs=resolved,
        env="local",
        headgate_version="0",
    )


def schema(**types: str) -> dict[str, Any]:
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in types.items()]
    return {"type": "struct", "fields": fields}


@dataclass
class ReplayWorld:
    settings: Settings
    frozen: FrozenContract
    replay: Replay
    lineage: str

    @property
    def own(self) -> ReplayLayout:
        return ReplayLayout(self.settings.state, "shop", self.replay.id)

    def live(self, table: str) -> Path:
        return self.settings.tables / "shop" / table

    def side(self, table: str) -> Path:
        return self.own.tables / "shop" / table

    def rows(self, table: str) -> list[dict[str, Any]]:
        return DeltaTable(str(self.live(table))).to_pyarrow_table().to_pylist()

    def commit_live(self, end: int, query: str | None = None) -> None:
        """The live stream has committed batch 3, which ends at this offset."""
        layout = CheckpointLayout(self.settings.checkpoints, "shop")
        for name in ("records", "tens") if query is None else (query,):
            folder = layout.query(self.lineage, name)
            for log in ("offsets", "commits"):
                (folder / log).mkdir(parents=True, exist_ok=True)
            head = json.dumps({"batchWatermarkMs": 1, "batchTimestampMs": 1, "conf": {}})
            read = json.dumps({topic: {"0": end} for topic in self.replay.end})
            (folder / "offsets" / "3").write_text(f"v1\n{head}\n{read}")
            (folder / "commits" / "3").write_text('v1\n{"nextBatchWatermarkMs":1}')

    def prove(self, low: int = 20, high: int = 70, **more: Any) -> None:
        """Windows that begin from second `low` to second `high` are whole."""
        free = ((micros(low), micros(high)),)
        found = OutputEvidence(**{"free": free, "batch": 3, **more})
        write_note(self.own.evidence, Evidence(self.lineage, 1.0, {"tens": found}).to_json())

    def run_live(self, frozen: FrozenContract) -> None:
        """The live stream has gone over to another contract."""
        layout = CheckpointLayout(self.settings.checkpoints, "shop")
        for query in ("records", "tens"):
            note_contract(layout, self.lineage, query, frozen.hash)

    def misjudge(self, *, live: Iterable[int] = (), side: Iterable[int] = (), source: str = "orders") -> None:
        """These records were quarantined as well, by the live stream (under a source's name) or by the
        replay."""
        for path, wrong, of, numbers, name in (
            (self.live, live, self.lineage, range(RECORDS), source),
            (self.side, side, "1-side", range(FIRST, LAST), "orders"),
        ):
            for table in ("copy", "tens", "_quarantine"):
                shutil.rmtree(path(table))
            fill(path, numbers, of, wrong, name)
        self.judge({*live, *side, *range(FIRST + 9, LAST, 10)})

    def judge(self, numbers: Iterable[int]) -> None:
        """The replay's driver has looked up when these records happened."""
        found = list(numbers)
        orders = ["orders"] * len(found)
        times = [micros(number) for number in found]
        rows = pa.table([orders, [0] * len(found), found, orders, times], schema=_JUDGED)
        self.own.judged.mkdir(exist_ok=True)
        pq.write_table(rows, self.own.judged / "part-0.parquet")


def micros(second: int) -> int:
    return int(BASE.timestamp() + second) * MICROS


def make_world(
    home: Path, frozen: FrozenContract | None = None, beside: tuple[int, int] | None = None
) -> ReplayWorld:
    """`beside` are the records of the other source that the replay has."""
    settings = Settings(home=home)
    frozen = frozen or contract()
    ContractStore(settings.state).put(frozen)
    layout = CheckpointLayout(settings.checkpoints, "shop")
    lineage = begin_lineage(layout, contract_hash=frozen.hash, spark_version="4", at=1.0).id
    ranges = {topic: (FIRST, LAST) if topic == "orders" else beside for topic in frozen.topics.values()}
    begin, end = ({topic: {0: each[n]} for topic, each in ranges.items() if each} for n in (0, 1))
    topics = dict.fromkeys(ranges, "id")
    replay = Replay("r1", "shop", frozen.hash, begin, end, topics, "offsets", "cli:tests", 2.0)
    world = ReplayWorld(settings, frozen, replay, lineage)
    write_note(world.own.manifest, replay.to_json())
    write_note(world.own.done, {"at": 2.0, "epoch": 1})
    world.commit_live(RECORDS)
    world.prove()
    world.judge(n for n in range(FIRST, LAST) if n % 10 == 9)
    everything, inside = range(RECORDS), range(FIRST, LAST)
    for path, numbers, of in ((world.live, everything, lineage), (world.side, inside, "1-side")):
        fill(path, numbers, of)
    return world


def fill(
    path: Callable[[str], Path],
    numbers: Iterable[int],
    lineage: str,
    wrong: Iterable[int] = (),
    source: str = "orders",
) -> None:
    """The three tables as computed from these records, by a contract that takes `wrong` for bad as well."""
    bad = [n for n in numbers if n % 10 == 9 or n in {*wrong}]
    good = [n for n in numbers if n not in {*bad}]
    at = [BASE + timedelta(seconds=n) for n in good]
    copied = pa.table([at, good, [0] * len(good), good], schema=_COPY)
    tens: dict[datetime, list[int]] = {}
    for number in good:
        tens.setdefault(BASE + timedelta(seconds=number // 10 * 10), []).append(number)
    counts = [len(each) for each in tens.values()]
    means = [sum(each) / len(each) for each in tens.values()]
    grouped = pa.table([list(tens), counts, means], schema=_TENS)
    topic, name, partition = ([each] * len(bad) for each in ("orders", source, 0))
    quarantine = pa.table([topic, partition, bad, name, [lineage] * len(bad)], schema=_BAD)
    for name, rows in (("copy", copied), ("tens", grouped), ("_quarantine", quarantine)):
        write_deltalake(str(path(name)), rows)
