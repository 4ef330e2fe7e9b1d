"""What it means that a replay takes the place of its range in the live tables. Looked up; changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import last_contract
from headgate.checkpoints.logs import committed_offsets
from headgate.checkpoints.sinks import QUARANTINE
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.delta_rows import delta_rows
from headgate.replays.evidence import RECORDS_WAY, Evidence, Way, read_evidence, ways_of
from headgate.replays.ground import writers
from headgate.replays.model import Replay, ReplayLayout, read_replay
from headgate.replays.select import Selection, records_of, windows_of
from headgate.replays.spans import Span
from headgate.replays.traces import open_table, trace_of
from headgate.replays.verdicts import Ready, judged_otherwise
from headgate.settings import Settings
from headgate.tables.place import on_disk

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["Chosen", "Refusal", "SwapPlan", "TableSwap", "plan_swap", "prepare_swap", "selections"]


_SERVED = "Redis still serves rows of the range: they must have gone out of what the output keeps there"
_FORGOTTEN = (
    "it was swapped in once, and whether a RESTORE took it out since is not known: the table's log does not "
    "go back so far"
)
_WIDER = (
    "swap all of its tables together, or make a replay of a wider range, which holds the windows of these "
    "records whole: headgate replay start; headgate replay discard {id}"
)
_CLOSES = "a window is written once, when it closes: a record that was late in the replay leaves no trace"

Served = Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class Chosen:
    """One table of a replay: the rows of its range, or why they cannot be told. `spans` are its windows."""

    way: Way
    rows: Selection | None
    why: str = ""
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class TableSwap:
    """What happens to one table; `why` says why nothing can. `kept` rows of the replay stay out: they are of
    windows that are open, or partly outside the range. `transaction` is the commit's."""

    table: str
    how: str
    taken_out: int = 0
    put_in: int = 0
    kept: int = 0
    of_lineage: int = 0  # of those taken out, how many the books of the live lineage count (quarantine)
    done: bool = False  # by this very replay, earlier
    why: str = ""
    transaction: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What keeps the whole swap from being made, and what helps against that."""

    text: str
    help: str


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """`judged` records of the range are good on one side and quarantined on the other."""

    replay: str
    pipeline: str
    lineage: str
    tables: tuple[TableSwap, ...]
    problems: tuple[Refusal, ...] = ()
    judged: int = 0

    @property
    def refusals(self) -> tuple[str, ...]:
        told = (f"table {each.table}: {each.why}" for each in self.tables if each.why)
        return (*(each.text for each in self.problems), *told)

    @property
    def help(self) -> str:
        """The next commands, the one against what concerns all tables first."""
        helps = dict.fromkeys(each.help for each in self.problems)
        if any(each.why for each in self.tables):
            fit = "".join(f" --table {each.table}" for each in self.tables if not each.why)
            helps[f"headgate replay swap {self.replay}{fit} --dry-run" if fit else self._away] = None
        return "; ".join(helps)

    @property
    def _away(self) -> str:
        return f"headgate replay discard {self.replay}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "refusals": list(self.refusals), "help": self.help}


def selections(
    settings: Settings, replay: Replay, lineage: str, served: Served = lambda _output: None
) -> list[Chosen]:
    """For each table of a replay which rows are of its range, in the live table as in its own, or why that
    cannot be told. Windows from what is `served` on are left out. The quarantine is the last: a swap that is
    cut off before it leaves a record twice rather than nowhere.

    Raises NotFoundError, RefusedError for files that are damaged.
    """
    contracts, layout = ContractStore(settings.state), CheckpointLayout(settings.checkpoints, replay.pipeline)
    frozen, wrote = contracts.get(replay.contract_hash), writers(settings, replay.pipeline, lineage)
    evidence = read_evidence(ReplayLayout(settings.state, replay.pipeline, replay.id).evidence)
    found = []
    for query in (RECORDS, *frozen.stateful_outputs):
        live = contracts.get(last_contract(layout, lineage, query))
        for way in (each for each in ways_of(frozen, live, wrote) if each.query == query):
            if way.why:
                found.append(Chosen(way, None, way.why))
            elif way.kind == RECORDS_WAY:
                rows = records_of(way.positions, replay.begin, replay.end, way.topic)
                found.append(Chosen(way, rows))
            else:
                found.append(_windowed(way, evidence, lineage, served(way.output)))
    return sorted(found, key=lambda each: each.way.table == QUARANTINE)


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
    return Chosen(way, windows_of(way.column, spans), spans=spans)


def plan_swap(settings: Settings, id: str, only: Iterable[str] = ()) -> SwapPlan:
    """What a swap would do now; it changes nothing. Raises NotFoundError, RefusedError."""
    return prepare_swap(settings, id, only)[0]


def prepare_swap(
    settings: Settings, id: str, only: Iterable[str] = ()
) -> tuple[SwapPlan, dict[str, Selection]]:
    """The same, with the rows of each table that it is about."""
    replay, wanted = read_replay(settings.state, id), {*only}
    layout = CheckpointLayout(settings.checkpoints, replay.pipeline)
    lineage = layout.current_lineage()
    if lineage is None:
        away = Refusal("the live stream has no checkpoint", f"headgate start {replay.pipeline}")
        return SwapPlan(id, replay.pipeline, "", (), (away,)), {}
    contracts = _contracts(settings, replay, lineage)
    served = _served_from(settings, replay, contracts)
    found = selections(settings, replay, lineage, served)
    chosen = [each for each in found if not wanted or each.way.table in wanted]
    problems = _unknown(wanted, {each.way.table for each in found})
    problems += _behind(layout, lineage, replay, {RECORDS, *(each.way.query for each in chosen)})
    if not ReplayLayout(settings.state, replay.pipeline, id).done.exists():
        problems += [Refusal("it has not come to the end of its range", f"headgate replay status {id}")]
    tables = [_table(settings, replay, lineage, each, served(each.way.output)) for each in chosen]
    fit = {each.table for each in tables if not each.why}
    ready = {each.way.table: each.spans or None for each in chosen if each.way.table in fit}
    judged, told = judged_otherwise(settings, replay, Ready(ready, contracts, served))
    problems += [Refusal(each, _WIDER.format(id=id)) for each in told]
    rows = {each.way.table: each.rows for each in chosen if each.rows is not None}
    return SwapPlan(id, replay.pipeline, lineage, tuple(tables), tuple(problems), judged), rows


def _contracts(settings: Settings, replay: Replay, lineage: str) -> list[FrozenContract]:
    """The replay's, and those that the live stream runs."""
    layout, store = CheckpointLayout(settings.checkpoints, replay.pipeline), ContractStore(settings.state)
    queries = (RECORDS, *store.get(replay.contract_hash).stateful_outputs)
    hashes = (last_contract(layout, lineage, query) for query in queries)
    return [store.get(each) for each in dict.fromkeys([replay.contract_hash, *hashes])]


def _unknown(wanted: set[str], known: set[str]) -> list[Refusal]:
    help = f"one of {', '.join(sorted(known))}"
    return [Refusal(f"the replay has no table {name}", help) for name in sorted(wanted - known)]


def _behind(layout: CheckpointLayout, lineage: str, replay: Replay, queries: set[str]) -> list[Refusal]:
    """What the live stream has yet to read of the range it would write after the swap, a second time."""
    found, help = [], f"headgate status {replay.pipeline}, and once more when it has read so far"
    for query in sorted(queries):
        committed = committed_offsets(layout.query(lineage, query))
        read = committed.offsets if committed is not None else {}
        for topic, partitions in sorted(replay.end.items()):
            for number, end in sorted(partitions.items()):
                mine = read.get(topic, {}).get(number, 0)
                if end > replay.begin[topic][number] and mine < end and (query == RECORDS or topic in read):
                    told = (
                        f"query {query} of the live stream has come to offset {mine} of topic {topic}, "
                        f"partition {number}; the range ends at {end}"
                    )
                    found.append(Refusal(told, help))
    return found


def _served_from(settings: Settings, replay: Replay, contracts: Sequence[FrozenContract]) -> Served:
    """The oldest event time of an output that Redis keeps, in microseconds: from there on the live stream
    serves its rows, and a swap in the table alone would contradict it."""
    from serving.results import ResultStore

    outputs = [(name, each) for frozen in contracts for name, each in frozen.contract.outputs.items()]
    kept = {name for name, each in outputs if any(target.redis for target in each.to)}

    def oldest(output: str) -> int | None:
        if output not in kept:
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
    live, side = (
        open_table(root / replay.pipeline / table)
        for root in (on_disk(settings.tables, "a replay"), own.tables)
    )
    if live is None or side is None:
        return TableSwap(table, kind, why="the live table, or the replay's own, is gone")
    trace = trace_of(settings, live, replay.pipeline, table, replay.id)
    if trace.stands:
        return TableSwap(table, kind, done=True)
    why = _FORGOTTEN if trace.stands is None else _why_not(chosen, served) or _schemas(live, side)
    if why or chosen.rows is None:
        return TableSwap(table, kind, why=why)
    inside = chosen.rows.rows
    taken, put = (delta_rows(each).count_rows(filter=inside) for each in (live, side))
    kept = delta_rows(side).count_rows() - put
    counted = _counted(live, inside, lineage) if table == QUARANTINE else 0
    return TableSwap(table, kind, taken, put, kept, counted, transaction=trace.name)


def _why_not(chosen: Chosen, served: int | None) -> str:
    if chosen.rows is None or chosen.way.closes:
        return chosen.why or _CLOSES
    # Which of what Redis keeps is of the range cannot be told there.
    return _SERVED if served is not None and chosen.way.kind == RECORDS_WAY else ""


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
