"""What a task does for a stateful output in the Arrow lane: decode, screen, and pass the good records on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from pathlib import Path

import pyarrow as pa

from headgate.arrow.passed import PassedPlan, passed_plan, passed_rows
from headgate.arrow.screen import RAW, Judged, Screen
from headgate.arrow.stretches import StretchNotes
from headgate.contract.frozen import FrozenContract
from headgate.contract.refusal import RecordRefused, refusals
from headgate.errors import HeadgateError
from headgate.formats.decoder import Writers

__all__ = ["PassedOrder", "pass_on"]


@dataclass(frozen=True, slots=True)
class PassedOrder:
    contract: str  # the frozen contract's JSON
    output: str
    source: str
    topic: str
    notes: tuple[str, str] | None = None  # where what was judged is noted for another query, and the mark
    sure: bool = False  # no record is left to Spark: nobody looks for one behind the task
    writers: Writers | None = None  # finds the schemas of records that carry a registry's id


@lru_cache(maxsize=8)
def _plan(contract: str, output: str, source: str) -> PassedPlan:
    return passed_plan(FrozenContract.from_json(json.loads(contract)), output, source)


def pass_on(order: PassedOrder) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`; its input has the columns of RAW, its output those of the plan's
    schema."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        plan = _plan(order.contract, order.output, order.source)
        screen = Screen(plan.records, order.topic, order.writers, for_others=order.notes is not None)
        notes = _Notes(order)
        for batch in batches:
            records = pa.Table.from_batches([batch]).cast(RAW)
            judged = screen.judge(records)
            if order.sure and judged.doubtful.num_rows:
                raise HeadgateError(
                    f"{judged.doubtful.num_rows} records of source {order.source} are left to Spark",
                    expected="none: nobody looks for them behind this task",
                    help="leave `lane` out on the output, then `headgate plan` and `headgate apply`",
                )
            if judged.refused:
                raise _refused(order, judged)
            notes.take(records, judged)
            yield from passed_rows(judged, plan).to_batches()
        notes.end()

    return run


def _refused(order: PassedOrder, judged: Judged) -> RecordRefused:
    """Of the first of these records."""
    rule, place = min(judged.refused.items(), key=itemgetter(1))
    contract = FrozenContract.from_json(json.loads(order.contract)).contract
    return RecordRefused(refusals(contract, order.source, order.topic)[rule], place)


class _Notes:
    """What is judged, noted where somebody wants it. A note that cannot be written is one that is missing,
    and no reason to fail."""

    def __init__(self, order: PassedOrder) -> None:
        self._notes: StretchNotes | None = None
        if order.notes is not None:
            folder, mark = order.notes
            self._notes = StretchNotes(Path(folder), mark)

    def take(self, records: pa.Table, judged: Judged) -> None:
        self._try(lambda notes: notes.take(records, judged))

    def end(self) -> None:
        self._try(StretchNotes.end)

    def _try(self, note: Callable[[StretchNotes], None]) -> None:
        if self._notes is None:
            return
        try:
            note(self._notes)
        except (OSError, pa.ArrowException) as error:
            self._notes = None
            sys.stderr.write(f"what was judged is not noted for the record query: {error}\n")
