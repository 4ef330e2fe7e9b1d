"""What ties the rows of a replay to the records of its range, and to the live rows that they stand against.

Two ways, both exact. *Records*: a row names the partition and the offset of its record. *Windows*: a row
is of a window into which no record outside the range falls, and which the live stream has closed. Anything
else cannot be told apart from what the range has no part in, and is neither compared nor swapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlglot import exp

from headgate.checkpoints.sinks import QUARANTINE
from headgate.contract.facts import event_time_name, only_source, row_positions, row_span
from headgate.contract.frozen import FrozenContract
from headgate.contract.model import Source
from headgate.contract.sql import parse_output
from headgate.replays.model import damaged, read_note
from headgate.replays.spans import Span

__all__ = [
    "RECORDS_WAY",
    "WINDOWS_WAY",
    "Evidence",
    "OutputEvidence",
    "Way",
    "read_evidence",
    "way_of",
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

    `positions` are columns by `_topic`, `_partition`, `_offset`, which mean records of the one `topic`;
    `column` and `seconds` a window's, `clock` how its event time is read, and one that `tumbles` begins at a
    multiple of its length. One that `closes` is written once, when the watermark has passed it: a record
    that was late in the replay leaves no trace there, so it can be compared, and not swapped.
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
    topic: str = ""
    clock: tuple[str, ...] = ()
    tumbles: bool = False
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


def read_evidence(path: Path) -> Evidence | None:
    """None where there is none. Raises RefusedError for a file that is damaged."""
    note = read_note(path)
    try:
        return Evidence.from_json(note) if note is not None else None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, f"it is no evidence ({error!r})") from error


def ways_of(frozen: FrozenContract, live: FrozenContract, wrote: Sequence[FrozenContract]) -> list[Way]:
    """Every table of the replay's contract. `live` is the contract that wrote the live tables last, `wrote`
    are all that ever did: what they do not say alike proves nothing of the rows that are there."""
    found = []
    for own in _tables_of(frozen):
        alike = own.output in live.contract.outputs and own == way_of(live, own.output, own.table)
        others = (each for each in wrote if any(_unlike(own, way) for way in _tables_of(each)))
        other = next(others, None) if alike else live
        found.append(own if own.why or other is None else _refused(own, other))
    return [*found, Way(QUARANTINE, "", "records", RECORDS_WAY, _POSITIONS)]


def _tables_of(frozen: FrozenContract) -> Iterator[Way]:
    for name, spec in frozen.contract.outputs.items():
        for target in spec.to:
            if target.delta is not None:
                yield way_of(frozen, name, target.delta)


def _unlike(own: Way, other: Way) -> bool:
    """Whether another contract wrote other rows into the same table, whatever its output was called."""
    return other.table == own.table and replace(other, output=own.output, query=own.query) != own


def windowed_source(frozen: FrozenContract, output: str) -> tuple[str, Source] | None:
    """The one source of an output, by its name."""
    query = _query(frozen, output)
    name = only_source(query, frozen.contract.sources) if query is not None else None
    return (name, frozen.contract.sources[name]) if name is not None else None


def way_of(frozen: FrozenContract, name: str, table: str) -> Way:
    """How the rows that an output writes into a table are told apart, by its contract alone."""
    resolved, spec = frozen.outputs[name], frozen.contract.outputs[name]
    query = name if resolved.stateful else "records"
    parsed = _query(frozen, name)
    if parsed is None:
        return Way(table, name, query, why="which records its rows are of cannot be told from Python")
    if not resolved.stateful:
        positions = row_positions(parsed, frozen.contract.sources)
        source = only_source(parsed, frozen.contract.sources)
        if not positions or source is None:
            return Way(table, name, query, why=_SELECT_THEM)
        return Way(table, name, query, RECORDS_WAY, positions, topic=frozen.topics[source])
    return _windows(frozen, name, Way(table, name, query, key=spec.key, closes=spec.mode == "append"), parsed)


def _windows(frozen: FrozenContract, name: str, way: Way, parsed: exp.Select) -> Way:
    resolved = frozen.outputs[name]
    column, source = resolved.event_time, only_source(parsed, frozen.contract.sources)
    span = row_span(parsed, column, frozen.contract.sources) if column is not None else None
    if column is None or span is None or source is None:
        why = "its groups are not windows of the event time: a range of records is only a part of each"
        return replace(way, why=why)
    clock, topic = _clock(frozen.contract.sources[source]), frozen.topics[source]
    found = replace(way, kind=WINDOWS_WAY, column=column, seconds=span, topic=topic, clock=clock)
    return replace(found, tumbles=_tumbles(parsed))


def _clock(source: Source) -> tuple[str, ...]:
    """All that decides which moment a record's event time is read as."""
    name = event_time_name(source)
    column = next((each for each in source.columns if each.name == name), None)
    said = (column.type, column.zone, column.format, column.default_year) if column is not None else ()
    return (str(name), source.format, source.pattern or "", *("" if v is None else str(v) for v in said))


def _tumbles(parsed: exp.Select) -> bool:
    """Whether each row's window is known to begin at a multiple of its length since 1970."""
    windows = [call for call in parsed.find_all(exp.Anonymous) if call.name.lower() == "window"]
    cuts = {each.text("unit").lower() for each in parsed.find_all(exp.TimestampTrunc)}
    return all(len(call.expressions) == 2 for call in windows) and "week" not in cuts


def _refused(way: Way, other: FrozenContract) -> Way:
    why = (
        f"version {other.contract.version} of the contract ({other.hash[:12]}), which wrote into the live "
        "table, ties its rows to records in another way: give the output another table, whose rows are all "
        "of one kind"
    )
    return Way(way.table, way.output, way.query, key=way.key, why=why)


def _query(frozen: FrozenContract, output: str) -> exp.Select | None:
    sql = frozen.contract.outputs[output].sql
    parsed = parse_output(sql, frozen.contract.sources) if sql is not None else None
    return parsed if isinstance(parsed, exp.Select) else None
