"""What is known of a batch of records once its tasks have run: as they report, or those of another query."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headgate.arrow.files import Written
from headgate.arrow.quarantine import newest
from headgate.arrow.screen import RAW
from headgate.arrow.stretches import Stretch, read_rows, tally
from headgate.contract.refusal import RecordPlace

__all__ = ["Reported", "noted", "reported"]


@dataclass(slots=True)
class Reported:
    """What the tasks of a batch report, and what the driver adds to it."""

    counts: Counter[str] = field(default_factory=Counter)
    bytes: int = 0  # of keys and values
    outputs: defaultdict[str, list[Written]] = field(default_factory=lambda: defaultdict(list))
    quarantine: list[Written] = field(default_factory=list)
    aside: list[Written] = field(default_factory=list)
    bad: list[pa.Table] = field(default_factory=list)  # a few that came along
    doubtful: pa.Table = field(default_factory=RAW.empty_table)  # the same
    doubted: int = 0  # how many they were, with those that were put aside
    examples: list[tuple[int, int]] = field(default_factory=list)  # offset and partition of bad records
    refused: dict[str, RecordPlace] = field(default_factory=dict)  # by rule, the first that breaks it

    def refuse(self, found: Mapping[str, RecordPlace]) -> None:
        for rule, place in found.items():
            self.refused[rule] = min(place, self.refused.get(rule, place))


def reported(rows: pa.Table) -> Reported:
    """What the tasks say, and the records that came along: those without `reasons` are doubtful."""
    found = Reported()
    for text in rows.column("report").drop_null().to_pylist():
        report: dict[str, Any] = json.loads(text)
        found.counts.update(report["counts"])
        found.bytes += report["bytes"]
        found.refuse({rule: RecordPlace(*place) for rule, place in report["refused"].items()})
        for name, files in report["outputs"].items():
            found.outputs[name].extend(Written(**file) for file in files)
        found.quarantine.extend(Written(**file) for file in report["quarantine"])
        found.aside.extend(Written(**file) for file in report["aside"])
        found.examples.extend((offset, partition) for offset, partition in report["examples"])
    carried = rows.filter(rows.column("report").is_null())
    judged = carried.column("reasons").is_valid()
    found.bad = [carried.filter(judged).select([*RAW.names, "reasons"])]
    found.doubtful = carried.filter(pc.invert(judged)).select(RAW.names).cast(RAW)
    return found


def noted(parts: Sequence[Stretch], now: int) -> Reported:
    """The same of records that the tasks of another query have judged, for a batch whose time is `now`, in
    microseconds. Raises OSError, pyarrow.ArrowInvalid."""
    rows = read_rows(parts)
    own = rows.filter(pc.invert(rows.column("warned"))).drop_columns("warned")
    own = own.set_column(own.column_names.index("_now"), RAW.field("_now"), _times(now, own.num_rows))
    judged = own.column("reasons").is_valid()
    bad, doubtful = own.filter(judged), own.filter(pc.invert(judged)).select(RAW.names)
    size = sum(part.record_bytes for part in parts)
    return Reported(tally(parts, rows), size, bad=[bad], doubtful=doubtful, examples=newest(bad))


def _times(moment: int, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(moment, pa.int64()), count).cast(RAW.field("_now").type)
