"""What the Arrow lane does to the records of a contract: its columns, checks and outputs, compiled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp

from headgate.arrow.expressions import Condition, compile_condition, compile_expression
from headgate.arrow.kernels import Batch
from headgate.arrow.kinds import KINDS, Unsupported, column_kinds
from headgate.arrow.nodes import Node, of_kind
from headgate.arrow.reading import check_readable
from headgate.contract.compile import COMPUTE, failure_conditions, safe_output, source_columns
from headgate.contract.frozen import FrozenContract
from headgate.contract.model import Source
from headgate.contract.sql import SPARK, to_sql

__all__ = ["Check", "OutputPlan", "RecordPlan", "plan_passed", "plan_records"]


@dataclass(frozen=True, slots=True)
class Check:
    """A rule, or an output that a record must not make fail."""

    name: str
    otherwise: Literal["quarantine", "warn", "fail"]
    broken: Condition


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """What one output computes of good records."""

    name: str
    schema: pa.Schema
    columns: tuple[Node, ...]
    where: Node | None

    def rows(self, batch: Batch) -> pa.Table:
        computed = [batch.filled(column.compute(batch)) for column in self.columns]
        table = pa.table(computed, schema=self.schema)
        if self.where is None:
            return table
        return table.filter(batch.filled(pc.coalesce(self.where.compute(batch), pa.scalar(False))))


@dataclass(frozen=True, slots=True)
class RecordPlan:
    source_name: str
    source: Source
    checks: tuple[Check, ...]
    outputs: tuple[OutputPlan, ...]


def plan_records(frozen: FrozenContract) -> RecordPlan:
    """Of the record query. Raises Unsupported where anything of it is the JVM lane's."""
    if len(frozen.contract.sources) > 1:
        raise Unsupported("the pipeline reads several sources")
    (name,) = frozen.contract.sources
    screening, kinds = _screening(frozen, name)
    outputs: list[OutputPlan] = []
    for each in frozen.record_outputs:
        with _within(f"output {each}"):
            outputs.append(_output(each, frozen, name, kinds))
    return replace(screening, outputs=tuple(outputs))


def plan_passed(frozen: FrozenContract, name: str, columns: Sequence[str], output: str) -> RecordPlan:
    """Of one source: its good records, with these columns of it, under the name of an output. Raises
    Unsupported."""
    screening, kinds = _screening(frozen, name)
    nodes = tuple(compile_expression(exp.column(column), kinds) for column in columns)
    schema = pa.schema([(column, KINDS[node.kind]) for column, node in zip(columns, nodes, strict=True)])
    return replace(screening, outputs=(OutputPlan(output, schema, nodes, None),))


def _screening(frozen: FrozenContract, name: str) -> tuple[RecordPlan, dict[str, str]]:
    """What is checked of each record of a source; and the types of its columns, by their names in lower
    case."""
    contract = frozen.contract
    source = contract.sources[name]
    with _within(f"source {name}"):
        check_readable(source)
        kinds = column_kinds(source)
    lower = {column.lower(): kind for column, kind in kinds.items()}
    otherwise = {rule.name: rule.otherwise for rule in source.rules}
    checks: list[Check] = []
    for reason, sql in failure_conditions(contract, name):
        computed = reason.startswith(COMPUTE)
        with _within(f"output {reason.removeprefix(COMPUTE)}" if computed else f"rule {reason}"):
            condition = compile_condition(sql, lower)
        checks.append(Check(reason, otherwise.get(reason, "quarantine"), condition))
    return RecordPlan(name, source, tuple(checks), ()), lower


@contextmanager
def _within(place: str) -> Iterator[None]:
    """Say where in the contract it is that cannot be compiled."""
    try:
        yield
    except Unsupported as reason:
        raise Unsupported(f"{place}: {reason}") from reason


def _output(name: str, frozen: FrozenContract, source_name: str, kinds: Mapping[str, str]) -> OutputPlan:
    spec, types = frozen.contract.outputs[name], frozen.outputs[name].columns
    if spec.sql is None:
        raise Unsupported("it is computed by Python")
    if spec.mode != "append":
        raise Unsupported("it upserts")
    if len(spec.to) != 1 or spec.to[0].delta is None or spec.to[0].partition_by:
        raise Unsupported("it goes to something else than one table without partitions")
    query = sqlglot.parse_one(safe_output(spec.sql, [source_name]), read=SPARK)
    alias = _only_table(query, source_name)
    columns = [
        compile_expression(_own(each, alias), kinds)
        for each in _projected(query, source_columns(frozen.contract.sources[source_name]))
    ]
    for node, (column, kind) in zip(columns, types.items(), strict=True):
        if node.kind != kind:
            raise Unsupported(f"its column {column} is of type {kind} in Spark, {node.kind} here")
    schema = pa.schema([(column, KINDS[str(kind)]) for column, kind in types.items()])
    where = query.args.get("where")
    kept = of_kind(compile_expression(_own(where.this, alias), kinds), "boolean") if where else None
    return OutputPlan(name, schema, tuple(columns), kept)


def _only_table(query: exp.Expr, source: str) -> str:
    """The name under which a plain SELECT of one source knows it."""
    said = {name for name, value in query.args.items() if value and not name.startswith("_")}
    clause = query.args.get("from_")
    table = clause.this if clause is not None else None
    plain = isinstance(query, exp.Select) and said <= {"expressions", "from_", "where"}
    if not plain or not isinstance(table, exp.Table) or table.name != source:
        raise Unsupported("it is more than SELECT … FROM one source WHERE …")
    if {name for name, value in table.args.items() if value} - {"this", "alias"}:
        raise Unsupported(f"`{to_sql(table)}` is more than a source")
    return str(table.alias_or_name).lower()


def _projected(query: exp.Expr, every: list[str]) -> list[exp.Expr]:
    found: list[exp.Expr] = []
    for each in query.expressions:
        if isinstance(each, exp.Star) and not any(each.args.values()):
            found.extend(exp.column(name) for name in every)
        else:
            found.append(each.unalias())
    return found


def _own(tree: exp.Expr, alias: str) -> exp.Expr:
    """The expression without the source's name before its columns."""
    root = exp.paren(tree.copy(), copy=False)
    for column in list(root.find_all(exp.Column)):
        if column.table.lower() == alias and len(column.parts) == 2:
            column.replace(exp.column(column.this.copy()))
    own: exp.Expr = root.this
    return own
