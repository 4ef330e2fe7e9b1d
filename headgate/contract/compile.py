"""Compiles a contract's SQL into SQL that never raises and never hides a failure.

Sessions run with ANSI mode off, so that no record can stop a stream. On its own that would turn a bad
cast into NULL and let an integer overflow wrap in silence. Therefore every cast and every arithmetic
operation is rewritten to its `try_` form, and next to an expression stands its *failure condition*: a
boolean that is true when an operation had its operands and yet no result. Such a record is quarantined.
What the author wrote as `try_…` is left alone: there NULL is the wish.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlglot import exp

from headgate.contract.failing import any_of, either, failure_of
from headgate.contract.model import Contract, Source
from headgate.contract.safe import safe
from headgate.contract.sql import parse_output, parse_rule, to_sql

__all__ = [
    "COMPUTE",
    "failure_conditions",
    "failure_of",
    "safe",
    "safe_output",
    "source_columns",
]

COMPUTE = "_compute_"  # prefix of the reason for records whose output expression cannot be computed


def source_columns(source: Source) -> list[str]:
    """The columns SQL sees for a source: the contract's own, the text line, and where a record is from."""
    own = [column.name for column in source.columns]
    line = ["line"] if source.format == "text" and "line" not in own else []
    return [*own, *line, "_key", "_topic", "_partition", "_offset", "_arrival"]


def safe_output(text: str, sources: Iterable[str]) -> str:
    """The SQL of an output as the driver runs it."""
    query = parse_output(text, sources)
    if isinstance(query, list):
        raise ValueError(query[0].message)
    return to_sql(safe(query))


def failure_conditions(contract: Contract, source_name: str) -> list[tuple[str, str]]:
    """What a record of a source must not do: (reason, SQL that is true or NULL when it does).

    First the contract's rules (NULL counts as failed), then one reason per output whose expressions over
    this source's columns can fail. The order is the contract's.
    """
    source = contract.sources[source_name]
    columns = source_columns(source)
    found: list[tuple[str, str]] = []
    for rule in source.rules:
        node = parse_rule(rule.expect, columns)
        if isinstance(node, list):
            raise ValueError(node[0].message)
        failed = f"NOT coalesce({to_sql(safe(node))}, false)"
        failure = failure_of(node)
        found.append((rule.name, f"({failed}) OR coalesce({to_sql(failure)}, false)" if failure else failed))
    for name, output in contract.outputs.items():
        if output.sql is None:
            continue
        failure = _output_failure(output.sql, list(contract.sources), source_name, columns)
        if failure is not None:
            found.append((f"{COMPUTE}{name}", f"coalesce({to_sql(failure)}, false)"))
    return found


def _output_failure(
    text: str, sources: Sequence[str], source_name: str, columns: Sequence[str]
) -> exp.Expr | None:
    """The failure condition of an output over one record: only of a plain SELECT from that source."""
    query = parse_output(text, sources)
    if isinstance(query, list):
        raise ValueError(query[0].message)
    tables = list(query.find_all(exp.Table))
    if len(tables) != 1 or tables[0].name != source_name or query.find(exp.Subquery, exp.CTE):
        return None
    known = {column.lower() for column in columns}
    alias = tables[0].alias_or_name
    where = query.args.get("where")
    parts: list[exp.Expr] = [*query.expressions]
    if query.args.get("group"):
        parts.extend(query.args["group"].expressions)
    projected = any_of(_record_failure(part, known, alias) for part in parts)
    if where is None:
        return projected
    # A record that the WHERE leaves out is not computed; one for which WHERE itself fails is.
    filtered = _record_failure(where.this, known, alias)
    kept = (
        None
        if projected is None
        else exp.And(this=exp.paren(safe(where.this)), expression=exp.paren(projected))
    )
    return either(filtered, kept)


def _record_failure(node: exp.Expr, known: set[str], alias: str) -> exp.Expr | None:
    """The failure of what is computed per record: the whole of a plain expression, or the arguments of
    its aggregates; what is computed from aggregates is not one record's."""
    if isinstance(node, exp.Alias):
        node = node.this
    aggregates = list(node.find_all(exp.AggFunc))
    parts = [a.this for a in aggregates if isinstance(a.this, exp.Expr)] if aggregates else [node]
    usable = [part for part in parts if _only_columns(part, known, alias)]
    return any_of(failure_of(_unqualified(part)) for part in usable)


def _only_columns(node: exp.Expr, known: set[str], alias: str) -> bool:
    for column in node.find_all(exp.Column):
        parts = [part.name.lower() for part in column.parts]
        if parts[0] == alias.lower():
            parts = parts[1:] or parts
        if parts[0] not in known:
            return False
    return True


def _unqualified(node: exp.Expr) -> exp.Expr:
    copy = node.copy()
    for column in copy.find_all(exp.Column):
        column.set("table", None)
    return copy
