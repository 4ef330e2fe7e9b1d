"""How far a replay has come, by its operation in the store and the files in its folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import committed_offsets
from headgate.contract.frozen import ContractStore
from headgate.errors import NotFoundError, RefusedError
from headgate.replays.evidence import read_evidence
from headgate.replays.model import BEGUN, KIND, Replay, ReplayLayout, read_note
from headgate.settings import Settings
from headgate.streams.handover import UnreadableNote, read_report
from headgate.streams.model import DriverStatus
from headgate.streams.operations import operation_of
from headgate.streams.store import StateStore
from headgate.topics.lag import queries_of

__all__ = ["QueryState", "ReplayState", "state_of"]


@dataclass(frozen=True, slots=True)
class QueryState:
    """`read` of `of` records of the range are committed; `late` is what its driver has reported."""

    query: str
    read: int
    of: int
    late: int


@dataclass(frozen=True, slots=True)
class ReplayState:
    replay: Replay
    state: str
    detail: str
    driver: str
    log: str
    queries: tuple[QueryState, ...]
    evidence: tuple[str, ...]
    swap: str

    @property
    def share(self) -> float:
        """Of the range, what the slowest query has read."""
        parts = [each.read / each.of for each in self.queries if each.of]
        return min(parts, default=1.0 if self.state not in ("requested", "running") else 0.0)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "records": self.replay.records, "share": self.share}


def state_of(settings: Settings, store: StateStore, replay: Replay) -> ReplayState:
    """Raises StoreUnavailable."""
    layout = ReplayLayout(settings.state, replay.pipeline, replay.id)
    operation = operation_of(store, replay.pipeline, KIND, replay.id)
    try:
        report = read_report(layout.folder)
    except UnreadableNote:
        report = None
    return ReplayState(
        replay,
        operation.state if operation is not None else "never ordered",
        operation.detail if operation is not None else "",
        f"epoch {report.epoch} {report.phase}" if report is not None else "none yet",
        str(layout.log),
        tuple(_queries(settings, layout, replay, report)),
        tuple(_evidence(layout)),
        _swap(layout),
    )


def _queries(
    settings: Settings, layout: ReplayLayout, replay: Replay, report: DriverStatus | None
) -> Iterator[QueryState]:
    checkpoints = layout.checkpoints
    lineage = checkpoints.current_lineage()
    try:
        frozen = ContractStore(settings.state).get(replay.contract_hash)
    except NotFoundError:
        return
    for query, sources in queries_of(frozen).items():
        read: dict[str, dict[int, int]] = {}
        try:
            known = committed_offsets(checkpoints.query(lineage, query)) if lineage is not None else None
            read = known.offsets if known is not None else {}
        except RefusedError:
            read = {}  # a damaged log; its driver says so
        done = of = 0
        for topic in {frozen.topics[source] for source in sources}:
            for number, last in replay.end.get(topic, {}).items():
                first = replay.begin[topic][number]
                of += last - first
                done += max(min(read.get(topic, {}).get(number, first), last) - first, 0)
        late = report.queries[query].late_groups if report is not None and query in report.queries else 0
        yield QueryState(query, done, of, late if query != RECORDS else 0)


def _evidence(layout: ReplayLayout) -> Iterator[str]:
    try:
        found = read_evidence(layout.evidence)
    except RefusedError as error:
        yield error.message
        return
    for output, seen in (found.outputs if found is not None else {}).items():
        told = seen.why or (
            "some windows are whole and closed" if seen.free else "no window is whole and closed"
        )
        yield f"output {output}, by live batch {seen.batch}: {told}"


def _swap(layout: ReplayLayout) -> str:
    try:
        note = read_note(layout.swap)
    except RefusedError as error:
        return error.message
    if note is None:
        return ""
    if note["state"] == BEGUN:
        return f"begun in generation {note['generation']}, attempt {note['attempts']}"
    tables = ", ".join(note["swapped"]) or "no table"
    told = f"{note['state']} in generation {note['generation']}, {tables} swapped"
    return "; ".join([told, *note["refusals"]])
