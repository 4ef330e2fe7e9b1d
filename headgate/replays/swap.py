"""What it means that a replay takes the place of its range in the live tables. Looked up; changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import last_contract
from headgate.checkpoints.logs import committed_offsets
from headgate.checkpoints.sinks import QUARANTINE
from headgate.contract.frozen import ContractStore
from headgate.delta_rows import delta_rows
from headgate.replays.evidence import RECORDS_WAY, Evidence, Way, ways_of
from headgate.replays.model import Replay, ReplayLayout, read_note, read_replay
from headgate.replays.select import Selection, records_of, windows_of
from headgate.settings import Settings

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = [
    "Chosen",
    "SwapPlan",
    "TableSwap",
    "plan_swap",
    "selections",
    "served_from",
    "swap_transaction",
]


_SERVED = "Redis still serves rows of the range: they must have gone out of what the output keeps there"

_CLOSES = "a window is written once, when it closes: a record that was late in the replay leaves no trace"

Served = Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class Chosen:
    """One table of a replay: the rows of its range, or why they cannot be told."""

    way: Way
    rows: Selection | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class TableSwap:
    """What happens to one table; `why` says why nothing can. `kept` rows of the replay stay out: they are of
    windows that are open, or partly outside the range."""

    table: str
    how: str
    taken_out: int = 0
    put_in: int = 0
    kept: int = 0
    of_lineage: int = 0  # of those taken out, how many the books of the live lineage count (quarantine)
    done: bool = False  # by this very replay, earlier
    why: str = ""


@dataclass(frozen=True, slots=True)
class SwapPlan:
    replay: str
    pipeline: str
    lineage: str
    tables: tuple[TableSwap, ...]
    problems: tuple[str, ...] = ()

    @property
    def refusals(self) -> tuple[str, ...]:
        return (*self.problems, *(f"table {each.table}: {each.why}" for each in self.tables if each.why))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "refusals": list(self.refusals)}


def swap_transaction(pipeline: str, table: str, replay: str) -> str:
    return f"headgate/{pipeline}/_replay/{table}/{replay}"


def selections(
    settings: Settings, replay: Replay, lineage: str, served: Served = lambda _output: None
) -> list[Chosen]:
    """For each table of a replay which rows are of its range, in the live table as in its own, or why that
    cannot be told. Windows from what is `served` on are left out.

    Raises NotFoundError, RefusedError for files that are damaged.
    """
    contracts, layout = ContractStore(settings.state), CheckpointLayout(settings.checkpoints, replay.pipeline)
    frozen = contracts.get(replay.contract_hash)
    note = read_note(ReplayLayout(settings.state, replay.pipeline, replay.id).evidence)
    evidence = Evidence.from_json(note) if note is not None else None
    found = []
    for query in (RECORDS, *frozen.stateful_outputs):
        live = contracts.get(last_contract(layout, lineage, query))
        for way in (each for each in ways_of(frozen, live) if each.query == query):
            if way.why:
                found.append(Chosen(way, None, way.why))
            elif way.kind == RECORDS_WAY:
                found.append(Chosen(way, records_of(way.positions, replay.begin, replay.end)))
            else:
                found.append(_windowed(way, evidence, lineage, served(way.output)))
    return found


def _windowed(way: Way, evidence: Evidence | None, lineage: str, served: int | None) -> Chosen:
    seen = evidence.outputs.get(way.output) if evidence is not None else None
    if evidence is None or seen is None:
        return Chosen(way, None, "it was not looked up which of its windows are whole")
    if evidence.lineage != lineage:
        return Chosen(way, None, "the live stream has begun a new lineage since: make the replay again")
    spans = seen.free
    if served is not None:
        spans = tuple((low, min(high, served - 1)) for low, high in spans if low < served)
    if not spans:
        told = seen.why or "no window lies wholly inside the range and is closed in the live stream"
        return Chosen(way, None, told if served is None or not seen.free else _SERVED)
    return Chosen(way, windows_of(way.column, spans))


def plan_swap(settings: Settings, id: str, only: Iterable[str] = ()) -> SwapPlan:
    """What a swap would do now; it changes nothing. Raises NotFoundError, RefusedError."""
    replay, wanted = read_replay(settings.state, id), {*only}
    layout = CheckpointLayout(settings.checkpoints, replay.pipeline)
    lineage = layout.current_lineage()
    if lineage is None:
        return SwapPlan(id, replay.pipeline, "", (), ("the live stream has no checkpoint",))
    served = served_from(settings, replay)
    found = selections(settings, replay, lineage, served)
    chosen = [each for each in found if not wanted or each.way.table in wanted]
    unknown = sorted(wanted - {each.way.table for each in chosen})
    problems = [f"the replay has no table {name}" for name in unknown]
    problems += _behind(layout, lineage, replay, {each.way.query for each in chosen})
    tables = [_table(settings, replay, lineage, each, served(each.way.output)) for each in chosen]
    return SwapPlan(id, replay.pipeline, lineage, tuple(tables), tuple(problems))


def _behind(layout: CheckpointLayout, lineage: str, replay: Replay, queries: set[str]) -> list[str]:
    """What the live stream has yet to read of the range it would write after the swap, a second time."""
    found = []
    for query in sorted(queries):
        committed = committed_offsets(layout.query(lineage, query))
        read = committed.offsets if committed is not None else {}
        for topic, partitions in sorted(replay.end.items()):
            for number, end in sorted(partitions.items()):
                mine = read.get(topic, {}).get(number, 0)
                if end > replay.begin[topic][number] and mine < end and (query == RECORDS or topic in read):
                    found.append(
                        f"query {query} of the live stream has come to offset {mine} of topic {topic}, "
                        f"partition {number}; the range ends at {end}"
                    )
    return found


def served_from(settings: Settings, replay: Replay) -> Served:
    """The oldest event time of an output that Redis keeps, in microseconds: from there on the live stream
    serves its rows, and a swap in the table alone would contradict it."""
    from serving.results import ResultStore

    outputs = ContractStore(settings.state).get(replay.contract_hash).contract.outputs

    def oldest(output: str) -> int | None:
        if output not in outputs or not any(target.redis for target in outputs[output].to):
            return None
        store = ResultStore.from_settings(settings)
        try:
            found = store.oldest(replay.pipeline, output)
        finally:
            store.close()
        return found * 1000 if found is not None else None

    return oldest


def _table(settings: Settings, replay: Replay, lineage: str, chosen: Chosen, served: int | None) -> TableSwap:
    table, kind = chosen.way.table, chosen.way.kind
    own = ReplayLayout(settings.state, replay.pipeline, replay.id)
    live, side = (_open(root / replay.pipeline / table) for root in (settings.tables, own.tables))
    if live is None or side is None:
        return TableSwap(table, kind, why="the live table, or the replay's own, is gone")
    if live.transaction_version(swap_transaction(replay.pipeline, table, replay.id)) is not None:
        return TableSwap(table, kind, done=True)
    if chosen.rows is None or chosen.way.closes:
        return TableSwap(table, kind, why=chosen.why or _CLOSES)
    if different := _schemas(live, side):
        return TableSwap(table, kind, why=different)
    if served is not None and kind == RECORDS_WAY:
        # Which of what Redis keeps is of the range cannot be told there.
        return TableSwap(table, kind, why=_SERVED)
    inside = chosen.rows.rows
    taken, put = (delta_rows(each).count_rows(filter=inside) for each in (live, side))
    kept = delta_rows(side).count_rows() - put
    counted = _counted(live, inside, lineage) if table == QUARANTINE else 0
    return TableSwap(table, kind, taken, put, kept, counted)


def _counted(live: DeltaTable, inside: Any, lineage: str) -> int:
    import pyarrow.compute as pc

    rows = delta_rows(live)
    return int(rows.count_rows(filter=inside & (pc.field("lineage") == lineage)))


def _schemas(live: DeltaTable, side: DeltaTable) -> str:
    def columns(table: DeltaTable) -> Mapping[str, Any]:
        fields = json.loads(table.schema().to_json())["fields"]
        return {field["name"]: field["type"] for field in fields}

    mine, theirs = columns(side), columns(live)
    names = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
    if not names:
        return ""
    return f"the columns {', '.join(names)} are not the same in both: headgate apply of its contract first"


def _open(path: Path) -> DeltaTable | None:
    from deltalake import DeltaTable

    return DeltaTable(str(path)) if DeltaTable.is_deltatable(str(path)) else None
