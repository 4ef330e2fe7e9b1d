"""A replay beside the live tables, over the same records or windows: what only one of them has, and what
differs. Floating-point numbers count as the same within 1e-9, as in `headgate torture`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.sinks import QUARANTINE
from headgate.delta_rows import delta_rows
from headgate.errors import RefusedError
from headgate.replays.evidence import Way
from headgate.replays.model import Replay, ReplayLayout
from headgate.replays.swap import Chosen, selections
from headgate.same_rows import same_rows
from headgate.settings import Settings
from headgate.tables.place import on_disk

__all__ = ["Comparison", "Difference", "compare", "differences"]

# Of one side: beyond this a comparison would take hours.
MOST_ROWS = 5_000_000
# Both sides are held in memory as rows of Python, so many at a time; a single moment may have more.
_PART, _MOST_OF_ONE = 50_000, 500_000
_EXAMPLES = 5
# Which batch put a record into the quarantine, and when: another one in a replay by its nature.
_NOT_COMPARED = {
    *("generation", "epoch", "batch_id", "lineage", "quarantined_at"),
    *("contract_hash", "contract_version"),
}

_SAME, _LIVE, _REPLAY, _DIFFERS = "same", "only live", "only replayed", "differs"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """Counts of keys (or of records), and a few of each kind."""

    same: int = 0
    only_live: int = 0
    only_replay: int = 0
    differing: int = 0
    examples: tuple[str, ...] = ()

    def plus(self, other: Difference) -> Difference:
        """Of two parts that share no key."""
        return Difference(
            self.same + other.same,
            self.only_live + other.only_live,
            self.only_replay + other.only_replay,
            self.differing + other.differing,
            (*self.examples, *other.examples)[: 3 * _EXAMPLES],
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """One table. `why` says why nothing is compared; `kept` rows of the replay are of windows that are open
    or partly outside the range, and not compared either."""

    table: str
    how: str
    live_rows: int = 0
    replay_rows: int = 0
    kept: int = 0
    difference: Difference = Difference()
    why: str = ""

    @property
    def agrees(self) -> bool:
        found = self.difference
        return not (self.why or found.only_live or found.only_replay or found.differing)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "agrees": self.agrees}


def compare(settings: Settings, replay: Replay) -> list[Comparison]:
    """Every table of a replay that has come to its end. Raises RefusedError, NotFoundError."""
    lineage = CheckpointLayout(settings.checkpoints, replay.pipeline).current_lineage()
    if lineage is None:
        raise RefusedError(
            f"{replay.pipeline} has no checkpoint: there is nothing to compare with",
            help=f"headgate start {replay.pipeline}",
        )
    return [_compared(settings, replay, each) for each in selections(settings, replay, lineage)]


def _compared(settings: Settings, replay: Replay, chosen: Chosen) -> Comparison:
    way, own = chosen.way, ReplayLayout(settings.state, replay.pipeline, replay.id)
    tables = [
        root / replay.pipeline / way.table for root in (on_disk(settings.tables, "a replay"), own.tables)
    ]
    if missing := [str(path) for path in tables if not (path / "_delta_log").is_dir()]:
        return Comparison(way.table, way.kind, why=f"there is no table {' and no '.join(missing)}")
    everything = _count(tables[1], None)
    if chosen.rows is None:
        return Comparison(way.table, way.kind, replay_rows=everything, why=chosen.why)
    inside = chosen.rows.rows
    live, side = (_count(path, inside) for path in tables)
    if max(live, side) > MOST_ROWS:
        why = f"more than {MOST_ROWS:,} rows are not compared one by one: replay a smaller range"
        return Comparison(way.table, way.kind, live, side, everything - side, why=why)
    parts = _parts(tables, way.column or way.positions["_offset"], inside)
    if parts is None:
        why = f"more than {_MOST_OF_ONE:,} rows are of one window, and are not compared one by one"
        return Comparison(way.table, way.kind, live, side, everything - side, why=why)
    found = Difference()
    for part in parts:
        rows = [_rows(path, inside & part, way.table == QUARANTINE) for path in tables]
        found = found.plus(differences(*rows, key=_key(way)))
    return Comparison(way.table, way.kind, live, side, everything - side, found)


def _parts(tables: Sequence[Path], column: str, inside: Any) -> list[Any] | None:
    """Filters that cut both sides into parts of a bounded size, by a column that is part of each key; None
    where one value of it has too many rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sides = [_table(path).to_table(columns=[column], filter=inside)[column] for path in tables]
    kind = sides[0].type
    values = pa.chunked_array([chunk for side in sides for chunk in side.cast(kind).chunks], kind)
    ordered = values.combine_chunks().sort()
    cuts, at = [], 0
    while at + _PART < len(ordered):
        cut = ordered[at + _PART]
        first = pc.index(ordered, cut).as_py()
        if first <= at:  # all of this part has one value: it ends where the next one begins
            first = at + pc.sum(pc.equal(ordered[at:], cut)).as_py()
            if first - at > _MOST_OF_ONE:
                return None
        if first == len(ordered):
            break
        cuts.append(ordered[first])
        at = first
    field, tests = pc.field(column), []
    for low, high in zip([None, *cuts], [*cuts, None], strict=True):
        above = field >= low if low is not None else pc.scalar(True)
        tests.append(above & (field < high) if high is not None else above)
    return tests


def differences(live: Iterable[Row], replayed: Iterable[Row], *, key: Sequence[str]) -> Difference:
    """Rows that share a key are compared together, in whatever order."""
    mine, theirs = _grouped(live, key), _grouped(replayed, key)
    counts: Counter[str] = Counter()
    examples = []
    for each in sorted({**mine, **theirs}, key=repr):
        left, right = mine.get(each, []), theirs.get(each, [])
        kind = _kind(left, right)
        counts[kind] += 1
        if kind != _SAME and counts[kind] <= _EXAMPLES:
            sides = ((left, "in the live table"), (right, "in the replay"))
            told = [f"{_told(rows)} {where}" for rows, where in sides if rows]
            examples.append(f"{kind}: {', '.join(told)}")
    return Difference(counts[_SAME], counts[_LIVE], counts[_REPLAY], counts[_DIFFERS], tuple(examples))


def _kind(live: Sequence[Row], replayed: Sequence[Row]) -> str:
    if not replayed:
        return _LIVE
    if not live:
        return _REPLAY
    return _SAME if live == replayed or same_rows(live, replayed) else _DIFFERS


def _told(rows: Sequence[Row]) -> str:
    """The first row, short enough for a line."""
    text = ", ".join(f"{name}={value}" for name, value in rows[0].items())
    return text if len(text) <= 200 else f"{text[:199]}…"


def _grouped(rows: Iterable[Row], key: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(_hashable(row[name]) for name in key), []).append(row)
    return found


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, dict | list) else value


def _key(way: Way) -> Sequence[str]:
    if not way.column:
        return tuple(way.positions.values())
    return way.key if way.column in way.key else (*way.key, way.column)


def _table(path: Path) -> Any:
    from deltalake import DeltaTable

    return delta_rows(DeltaTable(str(path)))


def _count(path: Path, inside: Any) -> int:
    return int(_table(path).count_rows(filter=inside))


def _rows(path: Path, inside: Any, quarantine: bool) -> list[Row]:
    rows: list[Row] = _table(path).to_table(filter=inside).to_pylist()
    if not quarantine:
        return rows
    return [{name: value for name, value in row.items() if name not in _NOT_COMPARED} for row in rows]
