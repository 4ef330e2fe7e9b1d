"""A contract frozen as `apply` would, without asking Spark: each record to a table, and counted by kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headgate import __version__
from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract

__all__ = ["KINDS", "record", "small_contract"]

KINDS = 7


def record(number: int) -> bytes:
    return json.dumps({"id": number, "kind": f"k{number % KINDS}"}).encode()


def small_contract(
    pipeline: str,
    *,
    job: Mapping[str, Any],
    counted: str = "kind",
    partitions: int = 4,
    version: int = 1,
    rules: Sequence[Mapping[str, str]] = (),
) -> FrozenContract:
    """`counted` is what `counts` groups by; another one needs another state."""
    columns = [{"name": "id", "type": "long", "required": True}, {"name": "kind", "type": "string"}]
    contract = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": pipeline,
            "version": version,
            "owner": "tests",
            "sources": {
                "events": {
                    "topic": f"{pipeline}-in",
                    "partitions": partitions,
                    "columns": columns,
                    "rules": list(rules),
                }
            },
            "outputs": {
                "rows": {"sql": "SELECT id, kind FROM events", "to": [{"delta": "rows"}]},
                "counts": {
                    "sql": f"SELECT {counted} AS kind, count(*) AS n FROM events GROUP BY {counted}",
                    "mode": "update",
                    "key": ["kind"],
                    "to": [{"delta": "counts"}],
                },
            },
            "job": job,
        }
    )
    outputs = {
        "rows": ResolvedOutput(False, _schema(id="long", kind="string")),
        "counts": ResolvedOutput(True, _schema(kind="string", n="long"), count_column="n"),
    }
    return freeze(
        contract,
        topics={"events": f"{pipeline}-in"},
        replication=1,
        outputs=outputs,
        env="local",
        headgate_version=__version__,
    )


def _schema(**types: str) -> dict[str, Any]:
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in types.items()]
    return {"type": "struct", "fields": fields}
