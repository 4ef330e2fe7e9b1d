"""What is known of a batch of records once its tasks have run: as they report, or those of another query."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headgate.arrow.files import Written
from headgate.arrow.quarantine import newest
from headgate.arrow.screen import RAW
from headgate.arrow.stretches import Stretch, read_rows, tally

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


def reported(rows: pa.Table) -> Reported:
    """What the tasks say, and the records that came along: those without `reasons` are doubtful."""
    found = Reported()
    for text in rows.column("report").drop_null().to_pylist():
        report: dict[str, Any] = json.loads(text)
        found.counts.update(report["counts"])
        found.bytes += report["bytes"]
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


def noted(parts: Sequence[Stretch]) -> Reported:
    """The same of records that the tasks of another query have judged."""
    rows = read_rows(parts)
    judged = rows.column("reasons").is_valid()
    bad, doubtful = rows.filter(judged), rows.filter(pc.invert(judged)).select(RAW.names)
    size = sum(part.record_bytes for part in parts)
    return Reported(tally(parts, rows), size, bad=[bad], doubtful=doubtful, examples=newest(bad))
