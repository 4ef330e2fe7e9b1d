"""Contracts, statuses and readings for the tests of monitoring."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headgate import __version__
from headgate.contract.frozen import Applied, FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.streams.model import Desired, DriverStatus, Event, Owner, Phase, QueryProgress, StreamStatus
from monitoring.compose import compose
from monitoring.readings import (
    AppliedContract,
    CheckpointReading,
    DriverReport,
    QueryCheckpoint,
    QueryLag,
    Readings,
    Stored,
    StoredStream,
    Supervised,
)
from monitoring.snapshot import (
    OutputVerdict,
    PartitionLag,
    PipelineSnapshot,
    PlatformSnapshot,
    Rows,
    SourceHealth,
)

NOW = 1_800_000_000.0


def frozen(pipeline: str = "orders", *, config: dict[str, Any] | None = None) -> FrozenContract:
    contract = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": pipeline,
            "version": 1,
            "description": "Orders <by> minute.",
            "owner": "shop",
            "sources": {
                "orders": {
                    "topic": f"{pipeline}_in",
                    "config": {"retention.ms": 3_600_000} if config is None else config,
                    "columns": [{"name": "id", "type": "long"}],
                }
            },
            "outputs": {
                "plain": {"sql": "SELECT id FROM orders", "to": [{"delta": "plain"}]},
                "total": {
                    "sql": "SELECT count(*) AS n FROM orders GROUP BY id",
                    "mode": "update",
                    "key": ["id"],
                    "to": [{"delta": "total"}],
                },
            },
            "quality": {
                "every": "5 minutes",
                "expectations": [
                    {"output": "plain", "expect": "ExpectColumnValuesToNotBeNull", "column": "id"}
                ],
            },
            "slo": {"freshness": "30 seconds", "quarantined_ratio": 0.02},
        }
    )
    schema = {"type": "struct", "fields": [{"name": "id", "type": "long", "nullable": True, "metadata": {}}]}
    return freeze(
        contract,
        topics={"orders": f"{pipeline}_in"},
        replication=1,
        outputs={"plain": ResolvedOutput(False, schema), "total": ResolvedOutput(True, schema)},
        env="local",
        headgate_version=__version__,
    )


def applied(pipeline: str = "orders") -> AppliedContract:
    contract = frozen(pipeline)
    pointer = Applied(
        pipeline=pipeline,
        hash=contract.hash,
        version=1,
        applied_at=NOW - 3600,
        applied_by="cli:ada",
        owner="shop",
        description=contract.contract.description,
        file=f"{pipeline}.yaml",
        quality_every=300.0,
    )
    return AppliedContract(pointer, contract)


def driver(pipeline: str = "orders", **changes: Any) -> DriverStatus:
    status = DriverStatus(
        stream=pipeline,
        pipeline=pipeline,
        epoch=4,
        generation=2,
        contract_hash=frozen(pipeline).hash,
        lineage="l1",
        headgate_version=__version__,
        pid=1,
        phase="running",
        written_at=NOW - 1,
        metrics_port=40001,
        ui_url="http://127.0.0.1:4040",
        queries={"records": QueryProgress(batch_id=9), "total": QueryProgress(batch_id=9)},
    )
    return replace(status, **changes)


def status(pipeline: str = "orders", **changes: Any) -> StreamStatus:
    value = StreamStatus(
        stream=pipeline,
        pipeline=pipeline,
        phase=Phase.RUNNING,
        desired=Desired.RUNNING,
        generation=2,
        epoch=4,
        contract_hash=frozen(pipeline).hash,
        owner=Owner("cli", user="ada"),
        restarts=1,
        driver=driver(pipeline),
        driver_alive=True,
    )
    return replace(value, **changes)


def event(number: int, **changes: Any) -> Event:
    value = Event(
        number, NOW - 60, "orders", "phase", "starting", "running", "first batch", "supervisor", 2, 4
    )
    return replace(value, **changes)


def lag(records: int = 3, seconds: float = 1.5) -> QueryLag:
    partitions = (PartitionLag("orders_in", 0, 97, 97 + records, records),)
    return QueryLag(records, seconds, partitions, {"orders_in": seconds})


def checkpoint(*, committed_at: float = NOW - 2, difference: int | None = 0) -> CheckpointReading:
    return CheckpointReading(
        "l1",
        {
            "records": QueryCheckpoint("records", 9, committed_at, difference),
            "total": QueryCheckpoint("total", 9, committed_at - 1),
        },
        Rows(read=100, good=98, quarantined=2, warned=1, per_second=12.5, rules={"positive": 2}),
        snapshot_at=NOW - 600,
        snapshot_every=3600.0,
    )


def verdict(state: str = "passed", severity: str = "") -> OutputVerdict:
    return OutputVerdict("plain", state, severity, NOW - 100, 98)


def readings(**changes: Any) -> Readings:
    """Everything answers and all is well."""
    value = Readings(
        contracts={"orders": applied()},
        supervised=Supervised({"orders": status()}, {"orders": (event(2), event(1))}, NOW - 1),
        drivers={"orders": DriverReport(driver(), alive=True)},
        checkpoints={"orders": checkpoint()},
        lags={"orders": {"records": lag(), "total": lag(5, 2.0)}},
        stored=Stored({"orders": (verdict(),)}, {"orders": StoredStream("running", 2, 4)}),
        topics=(),
        producers=(("orders", 40002),),
    )
    return replace(value, **changes)


def platform(value: Readings | None = None, *, down: tuple[str, ...] = ()) -> PlatformSnapshot:
    names = ("contracts", "supervisor", "drivers", "checkpoints", "kafka", "store")
    sources = [
        SourceHealth(
            name, name not in down, NOW - (90 if name in down else 1), 0.1, "gone" if name in down else ""
        )
        for name in names
    ]
    return compose(value or readings(), at=NOW, env="local", sources=sources, round_at=NOW - 1)


def orders(value: Readings | None = None) -> PipelineSnapshot:
    found = platform(value).pipeline("orders")
    assert found is not None
    return found
