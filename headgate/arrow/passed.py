"""The good records of a source, for an output whose groups, joins and other state are Spark's.

A task decodes and screens them, and passes on those columns that the output's query looks at. A record of
which Arrow is not sure goes along as it came, at its place among the others, and Spark judges it behind the
task. So the rows that Spark computes from, their order, and with them its state, are those of the JVM lane.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp

from headgate.arrow.kinds import Unsupported
from headgate.arrow.plan import RecordPlan, plan_passed
from headgate.arrow.screen import RAW, Judged
from headgate.contract.compile import source_columns
from headgate.contract.frozen import FrozenContract
from headgate.contract.sql import SPARK

__all__ = ["AS_CAME", "PassedPlan", "passed_plan", "passed_rows", "read_sources", "unsupported_reason"]

# Of a record that is left to Spark one element, as it came; NULL of all others.
AS_CAME = pa.list_(pa.field("element", pa.struct(list(RAW))))
_PLACE = "_offset"


@dataclass(frozen=True, slots=True)
class PassedPlan:
    """Screening of a source, and which of its columns are passed on."""

    records: RecordPlan
    columns: tuple[str, ...]

    @property
    def schema(self) -> pa.Schema:
        """Of the rows of a task: the columns, and a record that is left to Spark."""
        (output,) = self.records.outputs
        known = [output.schema.field(name) for name in self.columns]
        return pa.schema([*known, pa.field("_as_came", AS_CAME)])


def unsupported_reason(frozen: FrozenContract, output: str) -> str | None:
    """Why the records of a stateful output cannot be read in Arrow, None where they can."""
    try:
        for source in read_sources(frozen, output):
            passed_plan(frozen, output, source)
    except Unsupported as reason:
        return str(reason)
    return None


def read_sources(frozen: FrozenContract, output: str) -> list[str]:
    """The sources that an output reads: those that its SQL names, or all, where a function gets all."""
    sources = list(frozen.contract.sources)
    query = _query(frozen, output)
    if query is None:
        return sources
    named = {table.name for table in query.find_all(exp.Table)}
    return [name for name in sources if name in named]


def passed_plan(frozen: FrozenContract, output: str, source: str) -> PassedPlan:
    """Raises Unsupported."""
    columns = _columns(frozen, output, source)
    placed = columns if _PLACE in columns else [*columns, _PLACE]
    return PassedPlan(plan_passed(frozen, source, placed, output), tuple(columns))


def passed_rows(judged: Judged, plan: PassedPlan) -> pa.Table:
    """What a task passes on of one batch of records, which are of one partition, in their order."""
    (good,), doubtful, schema = judged.good.values(), judged.doubtful, plan.schema
    known = [good.column(name) for name in plan.columns]
    rows = pa.table([*known, pa.nulls(good.num_rows, AS_CAME)], schema=schema)
    if not doubtful.num_rows:
        return rows
    unread = [pa.nulls(doubtful.num_rows, schema.field(name).type) for name in plan.columns]
    left = pa.table([*unread, _as_came(doubtful)], schema=schema)
    places = pa.chunked_array([*good.column(_PLACE).chunks, *doubtful.column(_PLACE).chunks])
    return pa.concat_tables([rows, left]).take(pc.sort_indices(places))


def _as_came(records: pa.Table) -> pa.Array:
    columns = [records.column(name).combine_chunks() for name in RAW.names]
    offsets = pa.array(range(records.num_rows + 1), pa.int32())
    element = pa.StructArray.from_arrays(columns, fields=list(RAW))
    return pa.ListArray.from_arrays(offsets, element, type=AS_CAME)


def _columns(frozen: FrozenContract, output: str, source: str) -> list[str]:
    """Of the columns that SQL sees those whose name stands anywhere in the query, and the event time. What
    is left out of the frame cannot be read by mistake: Spark would not find it."""
    spec = frozen.contract.sources[source]
    every = source_columns(spec)
    query = _query(frozen, output)
    if query is None or not _names_its_columns(query):
        return every
    named = {each.name.lower() for each in query.find_all(exp.Identifier)}
    if spec.event_time is not None:
        named.add("_arrival" if spec.event_time.arrival else str(spec.event_time.column).lower())
    return [column for column in every if column.lower() in named]


def _names_its_columns(query: exp.Expr) -> bool:
    """Whether a column that is used is also written: a star stands for all of them, a natural join looks
    at those of both sides, and new names for the columns of a table are in the order of all."""
    if any(join.args.get("method") for join in query.find_all(exp.Join)):
        return False
    if any(alias.columns for alias in query.find_all(exp.TableAlias)):
        return False
    return all(_counts_rows(star.parent) for star in query.find_all(exp.Star))


def _counts_rows(place: exp.Expr | None) -> bool:
    """`count(*)`; a count of a star and more is one of records in which all columns are there."""
    return isinstance(place, exp.Count) and not place.expressions


def _query(frozen: FrozenContract, output: str) -> exp.Expr | None:
    sql = frozen.contract.outputs[output].sql
    return None if sql is None else sqlglot.parse_one(sql, read=SPARK)
