"""What a task does for a stateful output in the Arrow lane: decode, screen, and pass the good records on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

from headgate.arrow.passed import PassedPlan, passed_plan, passed_rows
from headgate.arrow.screen import RAW, Screen
from headgate.contract.frozen import FrozenContract

__all__ = ["PassedOrder", "pass_on"]


@dataclass(frozen=True, slots=True)
class PassedOrder:
    contract: str  # the frozen contract's JSON
    output: str
    source: str
    topic: str


@lru_cache(maxsize=8)
def _plan(contract: str, output: str, source: str) -> PassedPlan:
    return passed_plan(FrozenContract.from_json(json.loads(contract)), output, source)


def pass_on(order: PassedOrder) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`; its input has the columns of RAW, its output those of the plan's
    schema."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        plan = _plan(order.contract, order.output, order.source)
        screen = Screen(plan.records, order.topic)
        for batch in batches:
            judged = screen.judge(pa.Table.from_batches([batch]).cast(RAW))
            yield from passed_rows(judged, plan).to_batches()

    return run
