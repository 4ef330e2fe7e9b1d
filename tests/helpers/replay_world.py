"""A live stream and a replay of it on disk, as their drivers leave them: checkpoints, tables and notes.

The stream has read 100 records of one partition, one per second from BASE on; every tenth is bad. The
replay has the records 20 to 80. Rows of the live tables can be spoiled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import begin_lineage
from headgate.contract.frozen import ContractStore, FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.replays.evidence import Evidence, OutputEvidence
from headgate.replays.model import Replay, ReplayLayout, write_note
from headgate.replays.spans import MICROS
from headgate.settings import Settings

__all__ = ["BASE", "ReplayWorld", "contract", "make_world"]

BASE = datetime(2025, 10, 1, tzinfo=UTC)
RECORDS, FIRST, LAST = 100, 20, 80
_TIME = pa.timestamp("us", tz="UTC")
_COPY = pa.schema([("at", _TIME), ("amount", pa.int32()), ("part", pa.int32()), ("place", pa.int64())])
_TENS = pa.schema([("ten", _TIME), ("n", pa.int64()), ("mean", pa.float64())])
_BAD = pa.schema(
    [("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()), ("lineage", pa.string())]
)
COPY_SQL = "SELECT at, amount, _partition AS part, _offset AS place FROM orders"
TENS_SQL = (
    "SELECT window.start AS ten, count(*) AS n, avg(amount) AS mean "
    "FROM orders GROUP BY window(at, '10 seconds')"
)


def contract(copy: str = COPY_SQL, tens: str = TENS_SQL, **more: Any) -> FrozenContract:
    columns = [{"name": "at", "type": "timestamp", "required": True}, {"name": "amount", "type": "int"}]
    source = {"topic": "orders", "columns": columns, "event_time": {"column": "at", "watermark": "1 second"}}
    outputs = {
        "copy": {"sql": copy, "to": [{"delta": "copy"}]},
        "tens": {"sql": tens, "mode": "update", "key": ["ten"], "to": [{"delta": "tens"}]},
    }
    made = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": "shop",
            "version": 1,
            "owner": "tests",
            "sources": {"orders": source},
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
        made, topics={"orders": "orders"}, replication=1, outputs=resolved, env="local", headgate_version="0"
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
            (folder / "offsets" / "3").write_text(f'v1\n{head}\n{{"orders":{{"0":{end}}}}}')
            (folder / "commits" / "3").write_text('v1\n{"nextBatchWatermarkMs":1}')

    def prove(self, low: int = 20, high: int = 70, **more: Any) -> None:
        """Windows that begin from second `low` to second `high` are whole."""
        free = ((micros(low), micros(high)),)
        found = OutputEvidence(**{"free": free, "batch": 3, **more})
        write_note(self.own.evidence, Evidence(self.lineage, 1.0, {"tens": found}).to_json())


def micros(second: int) -> int:
    return int(BASE.timestamp() + second) * MICROS


def make_world(home: Path) -> ReplayWorld:
    settings = Settings(home=home)
    frozen = contract()
    ContractStore(settings.state).put(frozen)
    layout = CheckpointLayout(settings.checkpoints, "shop")
    lineage = begin_lineage(layout, contract_hash=frozen.hash, spark_version="4", at=1.0).id
    begin, end = {"orders": {0: FIRST}}, {"orders": {0: LAST}}
    replay = Replay("r1", "shop", frozen.hash, begin, end, {"orders": "id"}, "offsets", "cli:tests", 2.0)
    world = ReplayWorld(settings, frozen, replay, lineage)
    write_note(world.own.manifest, replay.to_json())
    world.commit_live(RECORDS)
    world.prove()
    everything, inside = range(RECORDS), range(FIRST, LAST)
    for path, numbers, of in ((world.live, everything, lineage), (world.side, inside, "1-side")):
        fill(path, numbers, of)
    return world


def fill(path: Callable[[str], Path], numbers: Iterable[int], lineage: str) -> None:
    """The three tables as computed from these records."""
    good = [n for n in numbers if n % 10 != 9]
    bad = [n for n in numbers if n % 10 == 9]
    at = [BASE + timedelta(seconds=n) for n in good]
    copied = pa.table([at, good, [0] * len(good), good], schema=_COPY)
    tens: dict[datetime, list[int]] = {}
    for number in good:
        tens.setdefault(BASE + timedelta(seconds=number // 10 * 10), []).append(number)
    counts = [len(each) for each in tens.values()]
    means = [sum(each) / len(each) for each in tens.values()]
    grouped = pa.table([list(tens), counts, means], schema=_TENS)
    quarantine = pa.table([["orders"] * len(bad), [0] * len(bad), bad, [lineage] * len(bad)], schema=_BAD)
    for name, rows in (("copy", copied), ("tens", grouped), ("_quarantine", quarantine)):
        write_deltalake(str(path(name)), rows)
