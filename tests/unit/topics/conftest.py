"""A small contract to vary, frozen as `apply` would freeze it, and a model of the live system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.topics.state import Live

MakeContract = Callable[..., FrozenContract]
MakeLive = Callable[..., Live]

COLUMNS = {"minute": "timestamp", "level": "string", "lines": "long"}
SQL = "SELECT window.start AS minute, level, count(*) AS lines FROM a GROUP BY window(ts, '1 minute'), level"


def _schema(columns: Mapping[str, Any]) -> dict[str, Any]:
    fields = [{"name": n, "type": t, "nullable": n != "level", "metadata": {}} for n, t in columns.items()]
    return {"type": "struct", "fields": fields}


def _contract(
    pipeline: str = "logs",
    *,
    version: int = 1,
    topic: str = "lines",
    partitions: int = 4,
    replication: int = 1,
    config: Mapping[str, Any] | None = None,
    columns: Mapping[str, Any] | None = None,
    sql: str = SQL,
    key: tuple[str, ...] = ("minute", "level"),
    table: str = "per_minute",
    partition_by: tuple[str, ...] = (),
    redis: str | None = None,
    output: str = "per_minute",
    stateful: bool = True,
    types: Mapping[str, str] | None = None,
) -> FrozenContract:
    targets: list[dict[str, Any]] = [{"delta": table, "partition_by": list(partition_by)}]
    if redis is not None:
        targets.append({"redis": redis})
    types = types or {"ts": "timestamp", "level": "string", "size": "long"}
    contract = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": pipeline,
            "version": version,
            "owner": "tests",
            "sources": {
                "a": {
                    "topic": topic,
                    "partitions": partitions,
                    "config": config or {},
                    "columns": [{"name": name, "type": kind} for name, kind in types.items()],
                }
            },
            "outputs": {
                output: {"sql": sql, "mode": "update" if key else "append", "key": key, "to": targets}
            },
        }
    )
    resolved = ResolvedOutput(stateful, _schema(columns or COLUMNS), "minute", 60.0, "lines")
    return freeze(
        contract,
        topics={"a": topic},
        replication=replication,
        outputs={output: resolved},
        env="local",
        headgate_version="0",
    )


def _live(**values: Any) -> Live:
    empty: dict[str, Any] = {
        name: {} for name in ("topics", "tables", "remembered", "owners", "applied", "committed")
    }
    return Live(**{"cluster_id": "c", **empty, **values})


@pytest.fixture
def contract() -> MakeContract:
    return _contract


@pytest.fixture
def nothing_there() -> MakeLive:
    """The live system before anything was applied, but for what is given."""
    return _live
