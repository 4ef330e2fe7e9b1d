"""One valid contract as text, to be broken one place at a time, and models made from small dicts."""

from __future__ import annotations

from typing import Any

from headgate.contract.model import Contract

__all__ = ["ORDERS", "changed", "contract_of", "place_of"]

ORDERS = """\
headgate: 1
pipeline: orders
version: 1
owner: shop
sources:
  orders:
    topic: orders
    partitions: 2
    config: {retention.ms: 604800000}
    start: earliest
    format: json
    columns:
      - {name: at, type: timestamp, zone: UTC, required: true}
      - {name: shop, type: string}
      - {name: amount, type: double, required: true}
    event_time: {column: at, watermark: 10 minutes, max_future: 5 minutes}
    rules:
      - {name: positive, expect: "amount > 0"}
      - {name: known_shop, expect: "shop IN ('a', 'b')", otherwise: warn}
    options: {minPartitions: 4}
outputs:
  per_minute:
    sql: SELECT window.start AS minute, sum(amount) AS total FROM orders GROUP BY window(at, '1 minute')
    mode: update
    key: [minute]
    to:
      - {delta: per_minute}
      - {redis: latest_orders}
  copy:
    sql: "SELECT at, shop, amount FROM orders"
    to: [{delta: copies, partition_by: [shop]}]
quality:
  every: 5 minutes
  expectations:
    - {output: per_minute, expect: ExpectColumnValuesToNotBeNull, column: total}
slo: {freshness: 60 seconds, quarantined_ratio: 0.01}
job: {trigger: 2 seconds, max_records_per_batch: 9, cores: 1, memory: 1g, spark: {spark.memory.fraction: 1}}
"""


def changed(old: str, new: str, text: str = ORDERS) -> str:
    """The contract with one place replaced; the place must exist once."""
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
    return text.replace(old, new)


def place_of(snippet: str, text: str) -> tuple[int, int]:
    """Line and column, from 1, of the first character of a snippet that is there once."""
    assert text.count(snippet) == 1, f"{snippet!r} is there {text.count(snippet)} times"
    before = text[: text.index(snippet)]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def contract_of(sources: dict[str, Any], outputs: dict[str, Any] | None = None, **values: Any) -> Contract:
    """A contract of the given sources; without outputs it passes records on."""
    name = next(iter(sources))
    passed_on = {"copy": {"sql": f"SELECT _offset FROM {name}", "to": [{"delta": "copy"}]}}
    return Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": "example",
            "version": 1,
            "owner": "tests",
            "sources": sources,
            "outputs": outputs or passed_on,
            **values,
        }
    )
