"""Where every record went: the books of the record query against what the tables hold.

    read = good + quarantined            the books; the quarantine table must have as many rows
    good = counted + good of pending + late      per output that carries a count of its records

`pending` are records that the record query has read and the output's own query has not, by their
offsets; the quarantine tells which of them are bad. Where it is the output's query that has read more,
its table is read as it was before. What is left came too late for its window: Spark drops it without
counting records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from headgate.checkpoints.books import last_page
from headgate.checkpoints.layout import (
    RECORDS,
    CheckpointLayout,
    quarantine_table,
    table_path,
    transaction_id,
)
from headgate.checkpoints.logs import committed_offsets
from headgate.checkpoints.sinks import QUARANTINE
from headgate.contract.frozen import FrozenContract
from headgate.contract.sql import parse_output
from headgate.delta_rows import delta_rows, reading
from headgate.errors import NotFoundError
from headgate.quality.counted import NotComparable, Offsets, Ranges, between, counted_at
from headgate.replays.traces import swapped_into
from headgate.settings import Settings
from headgate.tables.delta import open_table
from headgate.tables.place import Place
from headgate.topics.lag import initial_offsets

if TYPE_CHECKING:
    import pyarrow.dataset
    from deltalake import DeltaTable

__all__ = ["Audit", "OutputAudit", "audit"]


@dataclass(frozen=True, slots=True)
class OutputAudit:
    """One output. `late` is None, with the reason, where it cannot be told."""

    output: str
    counted: int | None
    pending: int | None
    late: int | None
    exact: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Audit:
    """One pipeline, from the beginning of its lineage to the newest committed batch."""

    pipeline: str
    lineage: str
    batch_id: int
    read: int
    good: int
    quarantined: int
    quarantine_rows: int
    outputs: tuple[OutputAudit, ...]

    @property
    def difference(self) -> int:
        """Records that are neither good nor quarantined, or are in the quarantine and not in the books."""
        return abs(self.read - self.good - self.quarantined) + abs(self.quarantined - self.quarantine_rows)

    @property
    def balanced(self) -> bool:
        counted_twice = any(each.exact and each.late is not None and each.late < 0 for each in self.outputs)
        return self.difference == 0 and not counted_twice

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "difference": self.difference, "balanced": self.balanced}


def audit(settings: Settings, frozen: FrozenContract) -> Audit:
    """Add up one pipeline. Raises NotFoundError before its first committed batch, RefusedError for a
    damaged checkpoint."""
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    lineage = layout.current_lineage()
    committed = committed_offsets(layout.query(lineage, RECORDS)) if lineage is not None else None
    page = last_page(layout.books(lineage), committed.batch_id) if lineage and committed else None
    if lineage is None or committed is None or page is None:
        raise NotFoundError(
            f"pipeline {frozen.pipeline} has committed no batch yet: there is nothing to audit",
            help=f"headgate status, or headgate start {frozen.pipeline}",
        )
    total = page.total
    swapped = swapped_into(settings, frozen.pipeline)
    return Audit(
        pipeline=frozen.pipeline,
        lineage=lineage,
        batch_id=committed.batch_id,
        read=total.read,
        good=total.good,
        quarantined=total.quarantined,
        quarantine_rows=_quarantine_rows(settings, frozen.pipeline, lineage, committed.batch_id)
        + _taken_out(swapped.get(QUARANTINE, ()), lineage),
        outputs=tuple(
            _output(settings, frozen, name, _Read(total.good, committed.offsets, layout, lineage, swapped))
            for name, output in frozen.outputs.items()
            if output.count_column is not None
        ),
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """What the record query has read: good records up to these offsets."""

    good: int
    offsets: Offsets
    layout: CheckpointLayout
    lineage: str
    swapped: Mapping[str, Sequence[Mapping[str, Any]]]


def _output(settings: Settings, frozen: FrozenContract, name: str, read: _Read) -> OutputAudit:
    reason = _why_not(frozen, name) or _begun_apart(frozen, name, read) or _replayed(frozen, name, read)
    if reason:
        return OutputAudit(name, None, None, None, exact=False, reason=reason)
    transaction = transaction_id(frozen.pipeline, name, name, read.lineage)
    query = read.layout.query(read.lineage, name)
    known = counted_at(_table(settings, frozen, name), query, transaction, read.offsets)
    if isinstance(known, NotComparable):
        reason = _NOT_NOW[known].format(name=name, pipeline=frozen.pipeline)
        return OutputAudit(name, None, None, None, exact=False, reason=reason)
    try:
        counted = _sum(known.table, settings.tables, frozen.outputs[name].count_column)
    except FileNotFoundError:
        reason = f"files of version {known.table.version()} of its table were removed meanwhile: audit again"
        return OutputAudit(name, None, None, None, exact=False, reason=reason)
    ranges = between(known.offsets, read.offsets)
    pending = sum(last - first for first, last in ranges.values())
    good = pending - _quarantined_between(settings, frozen.pipeline, read.lineage, ranges)
    return OutputAudit(name, counted, pending, read.good - counted - good, exact=True)


_NOT_NOW = {
    NotComparable.NOTHING: "query {name} has committed nothing yet",
    NotComparable.AHEAD: (
        "query {name} is too far ahead of the record query, whose books say what was quarantined: "
        "headgate status {pipeline} shows both; audit again when the records have caught up"
    ),
}


# Also in contracts that were applied when a count column was found in such queries.
_NOT_EACH_ONCE = (exp.Where, exp.Having, exp.Join, exp.Distinct, exp.Rollup, exp.Cube, exp.GroupingSets)


def _why_not(frozen: FrozenContract, name: str) -> str:
    """Why the output's count cannot be compared with the books, empty if it can."""
    spec = frozen.contract.outputs[name]
    query = parse_output(spec.sql, frozen.contract.sources) if spec.sql is not None else []
    if isinstance(query, list):
        return "its records cannot be told from a Python function"
    reasons = (
        (
            len(frozen.contract.sources) > 1,
            "the books are kept over all sources, and there are several",
        ),
        (
            query.find(*_NOT_EACH_ONCE) is not None,
            "its query leaves records out, or counts them more than once",
        ),
        (_slides(query), "its windows overlap: a record is counted in several"),
        (
            spec.mode == "append",
            "it is written when a window closes: the open ones are not in the table",
        ),
        (not any(target.delta for target in spec.to), "it has no Delta table"),
    )
    return next((reason for applies, reason in reasons if applies), "")


def _begun_apart(frozen: FrozenContract, name: str, read: _Read) -> str:
    """The books count from where the record query began. An output that a later version has added, or one
    that starts at `latest`, may have begun elsewhere."""
    (source,) = frozen.contract.sources
    begun = [initial_offsets(read.layout.query(read.lineage, query), source) for query in (RECORDS, name)]
    if not all(begun):
        return f"where the record query and query {name} began is not known: their checkpoints do not say it"
    for number in sorted({*begun[0], *begun[1]}):
        records, own = (offsets.get(number, 0) for offsets in begun)
        if records != own:
            return (
                f"query {name} began at offset {own} of partition {number}, and the record query, "
                f"whose books are compared, at {records}"
            )
    return ""


def _replayed(frozen: FrozenContract, name: str, read: _Read) -> str:
    """A replay counts what it has read, and the books what the live stream has."""
    tables = {target.delta for target in frozen.contract.outputs[name].to}
    ids = [each["replay"] for table in tables if table for each in read.swapped.get(table, ())]
    return f"replay {ids[0]} was swapped into its table: the books do not count what it read" if ids else ""


def _taken_out(swaps: Sequence[Mapping[str, Any]], lineage: str) -> int:
    """Rows of the books that a replay's rows have replaced in the quarantine."""
    return sum(int(each["of_lineage"]) for each in swaps if each.get("lineage") == lineage)


def _slides(query: exp.Select) -> bool:
    windows = [call for call in query.find_all(exp.Anonymous) if call.name.lower() == "window"]
    return any(len(call.expressions) > 2 and call.expressions[1] != call.expressions[2] for call in windows)


def _table(settings: Settings, frozen: FrozenContract, name: str) -> Place:
    table = next(target.delta for target in frozen.contract.outputs[name].to if target.delta is not None)
    return table_path(settings.tables, frozen.pipeline, table)


def _sum(table: DeltaTable, at: Place, column: str | None) -> int:
    import pyarrow.compute as pc

    with reading(at):
        return int(pc.sum(delta_rows(table, at).to_table(columns=[column])[column]).as_py() or 0)


def _quarantine(settings: Settings, pipeline: str) -> pyarrow.dataset.Dataset:
    path = quarantine_table(settings.tables, pipeline)
    return delta_rows(open_table(path), path)


def _quarantined_between(settings: Settings, pipeline: str, lineage: str, ranges: Ranges) -> int:
    import pyarrow.compute as pc

    total = 0
    with reading(settings.tables):
        rows = _quarantine(settings, pipeline)
        for (topic, number), (first, last) in ranges.items():
            if first < last:
                place = (pc.field("topic") == topic) & (pc.field("partition") == number)
                inside = (pc.field("offset") >= first) & (pc.field("offset") < last)
                total += rows.count_rows(filter=(pc.field("lineage") == lineage) & place & inside)
    return total


def _quarantine_rows(settings: Settings, pipeline: str, lineage: str, batch_id: int) -> int:
    import pyarrow.compute as pc

    mine = (pc.field("lineage") == lineage) & (pc.field("batch_id") <= batch_id)
    with reading(settings.tables):
        return int(_quarantine(settings, pipeline).count_rows(filter=mine))
