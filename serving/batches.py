"""A batch of result rows made ready for Redis: what goes into the history, and what into the tail."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from serving.moments import iso

__all__ = ["Batch", "HoldChange", "PublishOutcome", "ResultRow", "as_json", "prepare"]

# Rows of one batch that go into the live stream: more than anyone reads, few enough to cost nothing.
TAIL_ROWS = 500


class PublishOutcome(StrEnum):
    WRITTEN = "written"
    STALE = "stale"
    FENCED = "fenced"


class HoldChange(Enum):
    """What a verdict does to what is served; the values are the script's."""

    WITHHOLD = "1"
    RELEASE = "0"
    NONE = ""

    @classmethod
    def of(cls, status: str, severity: str) -> HoldChange:
        if status == "failed":
            return cls.WITHHOLD if severity == "critical" else cls.RELEASE
        return cls.RELEASE if status == "passed" else cls.NONE


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One row of an output. `key` tells rows of one event time apart; `body` has only JSON's types."""

    event_time_ms: int | None
    key: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """`rows` as (score, event time, row key, body), those of one event time together."""

    mode: str  # event | arrival
    rows: tuple[tuple[int, str, str, str], ...]
    newest_left_out: int | str  # the newest event time too old to be among the kept ones, or ''
    tail: tuple[str, ...]


def prepare(rows: Sequence[ResultRow], *, batch_id: int, epoch: int, keep: int, by_event_time: bool) -> Batch:
    """Leave out what cannot be among the last `keep` event times, and write bodies as JSON.

    `by_event_time` is the contract's word, never read off the rows: a batch may have none, and an event
    time may be NULL in all of them. In an output with event times a row without one has no place in their
    order: it goes to the tail alone.
    """
    tail = _tail(rows, batch_id, epoch)
    if not by_event_time:
        name = f"batch:{batch_id}"
        return Batch("arrival", tuple((0, name, row.key, as_json(row.body)) for row in rows), "", tail)
    times = sorted({row.event_time_ms for row in rows if row.event_time_ms is not None}, reverse=True)
    names = {time: iso(time) for time in times[:keep]}
    kept = sorted((row for row in rows if row.event_time_ms in names), key=lambda row: row.event_time_ms or 0)
    return Batch(
        "event",
        tuple(
            (row.event_time_ms, names[row.event_time_ms], row.key, as_json(row.body))
            for row in kept
            if row.event_time_ms is not None
        ),
        times[keep] if len(times) > keep else "",
        tail,
    )


def as_json(value: Any) -> str:
    """Strict JSON: numbers that JSON has no word for become the strings that Spark writes for them."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _tail(rows: Sequence[ResultRow], batch_id: int, epoch: int) -> tuple[str, ...]:
    shown = sorted(rows, key=lambda row: (row.event_time_ms is not None, row.event_time_ms or 0))[-TAIL_ROWS:]
    omitted = len(rows) - len(shown)
    entries = []
    for index, row in enumerate(shown):
        entry: dict[str, Any] = {
            "event_time": None if row.event_time_ms is None else iso(row.event_time_ms),
            "batch_id": batch_id,
            "epoch": epoch,
            "body": row.body,
        }
        if omitted and index == 0:
            entry["omitted"] = omitted
        entries.append(as_json(entry))
    return tuple(entries)
