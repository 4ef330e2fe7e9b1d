"""Records that a replay judges otherwise than the live stream did: good in one, quarantined in the other.

A swap moves such a record between the quarantine and the outputs. That is exact only where all of them are
swapped, and the whole of each window that it falls into: otherwise it would be in both, or in neither.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headgate.checkpoints.sinks import QUARANTINE
from headgate.contract.facts import output_facts
from headgate.contract.frozen import FrozenContract
from headgate.contract.sql import parse_output
from headgate.delta_rows import delta_rows
from headgate.replays.evidence import WINDOWS_WAY, Way, way_of
from headgate.replays.model import Replay, ReplayLayout
from headgate.replays.spans import FIRST, MICROS, Span
from headgate.replays.traces import open_table
from headgate.settings import Settings
from headgate.tables.place import on_disk

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["Ready", "Windows", "judged_otherwise"]

# So many quarantined records are held in memory at a time.
_MOST = 200_000

Record = tuple[str, int]  # its source and offset, within one partition


@dataclass(frozen=True, slots=True)
class Windows:
    """The times of an output's rows that a swap replaces: any other row stays as it is."""

    way: Way
    spans: Sequence[Span]

    def keep(self, at: int) -> bool:
        """Whether a row stays that a record of this moment may have a part in."""
        length = round(self.way.seconds * MICROS)
        last = at - at % length if length and self.way.tumbles else at
        first = last if self.way.tumbles or not length else at - length + 1
        found = bisect_right(self.spans, last, key=lambda span: span[0]) - 1
        return found < 0 or first < self.spans[found][0] or last > self.spans[found][1]


@dataclass(frozen=True, slots=True)
class Ready:
    """What a swap would replace: spans of windows by table, None for one that goes record by record.
    `contracts` are those of the replay and of the live stream; `served` gives the oldest moment that Redis
    has of an output."""

    tables: Mapping[str, Sequence[Span] | None]
    contracts: Sequence[FrozenContract]
    served: Callable[[str], int | None]


@dataclass(slots=True)
class _Of:
    """The records of one source."""

    left: set[str]
    windows: list[Windows]
    records: int = 0
    unknown: int = 0
    cut: Counter[str] = field(default_factory=Counter)


def judged_otherwise(settings: Settings, replay: Replay, ready: Ready) -> tuple[int, list[str]]:
    """How many records there are of the kind, and what keeps a swap of them from being whole."""
    found: dict[str, _Of] = {}
    own = ReplayLayout(settings.state, replay.pipeline, replay.id)
    tables = [
        open_table(root / replay.pipeline / QUARANTINE)
        for root in (on_disk(settings.tables, "a replay"), own.tables)
    ]
    for place in (part for whole in _places(replay) for part in _parts(tables, whole)):
        changed = _records(tables[0], place) ^ _records(tables[1], place)
        times = _times(own, place) if changed else {}
        for record in changed:
            source = record[0]
            if source not in found:
                found[source] = _Of(*_concerned(source, ready))
            _count(found[source], record, times)
    problems = [told for source, each in sorted(found.items()) for told in _problems(source, each)]
    return sum(each.records for each in found.values()), problems


def _count(of: _Of, record: Record, times: Mapping[Record, int | None]) -> None:
    of.records += 1
    if not of.windows:
        return
    if record not in times:
        of.unknown += 1
        return
    at = times[record]  # None for a record without an event time, which is in no window
    of.cut.update(each.way.output for each in of.windows if at is not None and each.keep(at))


def _problems(source: str, of: _Of) -> Iterator[str]:
    what = f"the replay and the live stream judge {of.records} records of source {source} differently"
    if of.left:
        yield f"{what}: they would be in the quarantine and in {', '.join(sorted(of.left))}, or in neither"
    for output, number in sorted(of.cut.items()):
        yield (
            f"{what}, and {number} of them fall into windows of output {output} that are not swapped: they "
            "would be counted there and be in the quarantine, or neither"
        )
    if of.unknown:
        yield f"{what}, and when {of.unknown} of them happened was not looked up: make the replay again"


def _concerned(source: str, ready: Ready) -> tuple[set[str], list[Windows]]:
    """Of what is made from a source: what is not swapped at all, and the windows that are."""
    left = {QUARANTINE} - {*ready.tables}
    windows = {}
    for contract in ready.contracts:
        for output in (name for name in contract.contract.outputs if _reads(contract, name, source)):
            for table in _tables(contract, output):
                way, spans = way_of(contract, output, table), ready.tables.get(table)
                if table and table not in ready.tables:
                    left.add(table)
                elif table and way.kind == WINDOWS_WAY:
                    windows[table] = Windows(way, spans or ())
                elif not table and (oldest := ready.served(output)) is not None:
                    if way.kind == WINDOWS_WAY:
                        windows[f"redis {output}"] = Windows(way, ((FIRST, oldest - 1),))
                    else:
                        left.add(f"Redis, output {output}")
    return left, list(windows.values())


def _tables(contract: FrozenContract, output: str) -> list[str]:
    """The tables of an output; an empty name for one that goes to Redis alone."""
    return [each.delta for each in contract.contract.outputs[output].to if each.delta is not None] or [""]


def _reads(contract: FrozenContract, output: str, source: str) -> bool:
    """Whether an output may be made from a source, whose name may be of another contract."""
    sql, sources = contract.contract.outputs[output].sql, contract.contract.sources
    parsed = parse_output(sql, sources) if sql is not None else []
    if isinstance(parsed, list) or source not in sources:
        return True
    return source in output_facts(parsed, sources).sources


Place = tuple[str, int, int, int]  # topic, partition, and the offsets from the first to before the last


def _places(replay: Replay) -> Iterator[Place]:
    for topic, partitions in sorted(replay.end.items()):
        for number, end in sorted(partitions.items()):
            yield topic, number, replay.begin[topic][number], end


def _parts(tables: Sequence[DeltaTable | None], place: Place) -> Iterator[Place]:
    """A range in parts with so few records in the quarantines that they can be held; none without any."""
    topic, number, first, last = place
    there = [delta_rows(table).count_rows(filter=_inside(place)) for table in tables if table is not None]
    if sum(there) > _MOST and last - first > 1:
        middle = (first + last) // 2
        yield from _parts(tables, (topic, number, first, middle))
        yield from _parts(tables, (topic, number, middle, last))
    elif sum(there):
        yield place


def _records(table: DeltaTable | None, place: Place) -> set[Record]:
    if table is None:
        return set()
    rows = delta_rows(table).to_table(columns=["source", "offset"], filter=_inside(place))
    return set(zip(rows["source"].to_pylist(), rows["offset"].to_pylist(), strict=True))


def _times(own: ReplayLayout, place: Place) -> dict[Record, int | None]:
    """Event times in microseconds, as the replay's driver noted them of all that was quarantined."""
    if not own.judged.is_dir():
        return {}
    import pyarrow.dataset as ds

    known = ds.dataset(own.judged, format="parquet")
    rows = known.to_table(columns=["source", "offset", "at"], filter=_inside(place))
    names, offsets, times = (rows[name].to_pylist() for name in ("source", "offset", "at"))
    return {(name, offset): at for name, offset, at in zip(names, offsets, times, strict=True)}


def _inside(place: Place) -> Any:
    import pyarrow.compute as pc

    topic, number, first, last = place
    of = (pc.field("topic") == topic) & (pc.field("partition") == number)
    return of & (pc.field("offset") >= first) & (pc.field("offset") < last)
