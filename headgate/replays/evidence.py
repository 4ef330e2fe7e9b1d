"""What ties the rows of a replay to the records of its range, and to the live rows that they stand against.

Two ways, both exact. *Records*: a row names the partition and the offset of its record. *Windows*: a row
is of a window into which no record outside the range falls, and which the live stream has closed. Anything
else cannot be told apart from what the range has no part in, and is neither compared nor swapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlglot import exp

from headgate.checkpoints.sinks import QUARANTINE
from headgate.contract.facts import event_time_name, only_source, row_positions, row_span
from headgate.contract.frozen import FrozenContract
from headgate.contract.model import Source
from headgate.contract.sql import parse_output
from headgate.replays.spans import Span

__all__ = [
    "RECORDS_WAY",
    "WINDOWS_WAY",
    "Evidence",
    "OutputEvidence",
    "Way",
    "same_event_time",
    "ways_of",
    "windowed_source",
]

RECORDS_WAY, WINDOWS_WAY = "records", "windows"
_POSITIONS = {"_topic": "topic", "_partition": "partition", "_offset": "offset"}
_SELECT_THEM = (
    "its rows do not say which record each is of: select `_partition` and `_offset` in the output's SQL, "
    "and every later replay can be compared and swapped exactly"
)


@dataclass(frozen=True, slots=True)
class Way:
    """How one table's rows are told apart; `why` is set, and the rest empty, where they cannot be.

    `positions` are columns by `_topic`, `_partition`, `_offset`; `column` and `seconds` a window's. One that
    `closes` is written once, when the watermark has passed it: a record that was late in the replay leaves no
    trace there, so it can be compared, and not swapped.
    """

    table: str
    output: str
    query: str
    kind: str = ""
    positions: Mapping[str, str] = field(default_factory=dict)
    column: str = ""
    seconds: float = 0.0
    key: tuple[str, ...] = ()
    closes: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class OutputEvidence:
    """Row times of one output that are wholly inside the range and closed in the live stream; `batch` is the
    live batch up to which was looked, -1 for none. `why` says what kept it from being proved."""

    free: tuple[Span, ...] = ()
    batch: int = -1
    why: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Gathered by the replay's driver at the end of its range, for one lineage of the live stream."""

    lineage: str
    at: float
    outputs: Mapping[str, OutputEvidence]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        outputs = {
            name: OutputEvidence(**{**each, "free": tuple((low, high) for low, high in each["free"])})
            for name, each in data["outputs"].items()
        }
        return cls(data["lineage"], data["at"], outputs)


def ways_of(frozen: FrozenContract, live: FrozenContract) -> list[Way]:
    """Every table of the replay's contract. `live` is the contract that wrote the live tables last: what the
    two do not say alike proves nothing."""
    found = []
    for name, spec in frozen.contract.outputs.items():
        query = name if frozen.outputs[name].stateful else "records"
        for table in (target.delta for target in spec.to if target.delta is not None):
            own = _way(frozen, name, table, query)
            known = name in live.contract.outputs and frozen.topics == live.topics
            alike = known and own == _way(live, name, table, query)
            found.append(own if own.why or alike else _unlike(own))
    return [*found, Way(QUARANTINE, "", "records", RECORDS_WAY, _POSITIONS)]


def windowed_source(frozen: FrozenContract, output: str) -> tuple[str, Source] | None:
    """The one source of an output, by its name."""
    query = _query(frozen, output)
    name = only_source(query, frozen.contract.sources) if query is not None else None
    return (name, frozen.contract.sources[name]) if name is not None else None


def _way(frozen: FrozenContract, name: str, table: str, query: str) -> Way:
    resolved, spec = frozen.outputs[name], frozen.contract.outputs[name]
    parsed = _query(frozen, name)
    if parsed is None:
        return Way(table, name, query, why="which records its rows are of cannot be told from Python")
    if not resolved.stateful:
        positions = row_positions(parsed, frozen.contract.sources)
        if not positions:
            return Way(table, name, query, why=_SELECT_THEM)
        return Way(table, name, query, RECORDS_WAY, positions)
    return _windows(frozen, name, Way(table, name, query, key=spec.key, closes=spec.mode == "append"), parsed)


def _windows(frozen: FrozenContract, name: str, way: Way, parsed: exp.Select) -> Way:
    resolved = frozen.outputs[name]
    column = resolved.event_time
    span = row_span(parsed, column, frozen.contract.sources) if column is not None else None
    if column is None or span is None:
        why = "its groups are not windows of the event time: a range of records is only a part of each"
        return replace(way, why=why)
    return replace(way, kind=WINDOWS_WAY, column=column, seconds=span)


def _unlike(way: Way) -> Way:
    why = "the contract that wrote the live table last ties its rows to records in another way"
    return Way(way.table, way.output, way.query, key=way.key, why=why)


def _query(frozen: FrozenContract, output: str) -> exp.Select | None:
    sql = frozen.contract.outputs[output].sql
    parsed = parse_output(sql, frozen.contract.sources) if sql is not None else None
    return parsed if isinstance(parsed, exp.Select) else None


def same_event_time(frozen: FrozenContract, live: FrozenContract, source: str) -> bool:
    """Whether both contracts read the event time of a source alike: by the same column and the same topic."""
    mine, theirs = frozen.contract.sources[source], live.contract.sources.get(source)
    if theirs is None or frozen.topics[source] != live.topics[source]:
        return False
    name = event_time_name(mine)
    if name != event_time_name(theirs) or (mine.format, mine.pattern) != (theirs.format, theirs.pattern):
        return False
    column = {each.name: each for each in mine.columns}.get(str(name))
    return column == {each.name: each for each in theirs.columns}.get(str(name))
