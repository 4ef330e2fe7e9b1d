"""The suite of an output: the contract's expectations, and those that follow from its rules. Pure.

What the stream has screened must still hold in the table. It follows only where it is provably the same,
for columns that pass through (or are the min or max of a group) from the one source of a query:

| in the contract                         | in a record             | expectation             |
|-----------------------------------------|-------------------------|-------------------------|
| `required`, event time, compared column | NULL is quarantined     | not null                |
| `c BETWEEN a AND b`, `c >= a`, `c < b`  | outside is quarantined  | between, as strict      |
| `c IN ('a', 'b')`, `c = 'a'`            | others are quarantined  | in set                  |

The first line is there because Great Expectations' own map expectations skip NULL, and the stream counts
it as failed.

Left out: floating columns without an upper bound (NaN is not NULL to Spark, passes `c >= 0`, and is
missing to pandas), 32-bit floats (compared in other widths), `warn` rules, and rules with OR, NOT or
functions. Generated expectations have severity `warning`: rows of an older contract are in the table too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlglot import exp

from headgate.contract.compile import source_columns
from headgate.contract.frozen import FrozenContract
from headgate.contract.model import Source
from headgate.contract.sql import parse_output, parse_rule
from headgate.quality.verdict import Severity

__all__ = ["PlannedExpectation", "suites"]

_WHOLE = ("byte", "short", "int", "integer", "long")


@dataclass(frozen=True, slots=True)
class PlannedExpectation:
    """One expectation of Great Expectations; `origin` says which line of the contract it comes from."""

    expect: str
    arguments: Mapping[str, Any]
    severity: Severity
    origin: str = "contract"


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of a column in every good record. Bounds are (value, strict)."""

    kind: str
    not_null: str = ""  # the origin, empty when NULL is possible
    low: tuple[float, bool] | None = None
    high: tuple[float, bool] | None = None
    allowed: tuple[str, ...] | None = None
    bounds_origin: str = ""


def suites(contract: FrozenContract) -> dict[str, list[PlannedExpectation]]:
    """Output to its expectations, for the outputs that have a Delta table and anything to check."""
    quality = contract.contract.quality
    found: dict[str, list[PlannedExpectation]] = {}
    for name, output in contract.contract.outputs.items():
        if not any(target.delta for target in output.to):
            continue
        own = [
            PlannedExpectation(each.expect, each.arguments, each.severity)
            for each in (quality.expectations if quality else ())
            if each.output == name
        ]
        said = {(each.expect, each.arguments.get("column")) for each in own}
        generated = [
            each
            for each in _generated(contract, name)
            if (each.expect, each.arguments.get("column")) not in said
        ]
        if own or generated:
            found[name] = [*own, *generated]
    return found


def _generated(contract: FrozenContract, name: str) -> Iterable[PlannedExpectation]:
    sql = contract.contract.outputs[name].sql
    query = parse_output(sql, contract.contract.sources) if sql is not None else []
    source = None if isinstance(query, list) else _only_source(query, contract)
    if isinstance(query, list) or source is None:
        return
    facts = _source_facts(source)
    kept = {column.lower(): column for column in contract.outputs[name].columns}
    for alias, expression in _projections(query, source):
        known = _facts_of(expression, facts, query)
        if known is not None and alias.lower() in kept:
            yield from _expectations(kept[alias.lower()], known)


def _only_source(query: exp.Select, contract: FrozenContract) -> Source | None:
    """The source of a plain SELECT from one source; None where rows could come from elsewhere."""
    tables = list(query.find_all(exp.Table))
    nested = query.find(exp.Join, exp.Subquery, exp.CTE, exp.SetOperation, exp.Lateral, exp.Unnest)
    # They add rows of their own, with NULL for keys that no record had NULL.
    sets = query.find(exp.Cube, exp.Rollup, exp.GroupingSets)
    if len(tables) != 1 or nested is not None or sets is not None:
        return None
    return contract.contract.sources.get(tables[0].name)


def _projections(query: exp.Select, source: Source) -> Iterable[tuple[str, exp.Expr]]:
    for expression in query.expressions:
        if isinstance(expression, exp.Star):
            for column in source.columns:
                yield column.name, exp.column(column.name)
        else:
            yield expression.alias_or_name, expression.unalias()


def _facts_of(expression: exp.Expr, facts: Mapping[str, _Facts], query: exp.Select) -> _Facts | None:
    table = query.find(exp.Table)
    alias = table.alias_or_name if table is not None else ""
    # The smallest and the largest of a group lie where all of it lies.
    if query.args.get("group") is not None and type(expression) in (exp.Min, exp.Max):
        expression = expression.this
    return facts.get(_column(expression, alias))


def _expectations(column: str, facts: _Facts) -> Iterable[PlannedExpectation]:
    if facts.not_null and (facts.kind not in ("float", "double") or facts.high is not None):
        yield PlannedExpectation(
            "ExpectColumnValuesToNotBeNull", {"column": column}, "warning", facts.not_null
        )
    bounds: dict[str, Any] = {}
    for side, bound in (("min", facts.low), ("max", facts.high)):
        if bound is not None and facts.kind != "float":
            bounds |= {f"{side}_value": bound[0], **({f"strict_{side}": True} if bound[1] else {})}
    if bounds:
        arguments = {"column": column, **bounds}
        yield PlannedExpectation("ExpectColumnValuesToBeBetween", arguments, "warning", facts.bounds_origin)
    if facts.allowed is not None:
        arguments = {"column": column, "value_set": list(facts.allowed)}
        yield PlannedExpectation("ExpectColumnValuesToBeInSet", arguments, "warning", facts.bounds_origin)


def _source_facts(source: Source) -> dict[str, _Facts]:
    event_time = source.event_time.column if source.event_time is not None else None
    facts = {}
    for column in source.columns:
        origin = "required" if column.required else "event_time" if column.name == event_time else ""
        facts[column.name.lower()] = _Facts(column.type, not_null=origin)
    for rule in source.rules:
        node = parse_rule(rule.expect, source_columns(source))
        if rule.otherwise == "warn" or isinstance(node, list):
            continue
        for part in _conjuncts(node):
            _learn(facts, part, f"rule {rule.name}")
    return facts


def _conjuncts(node: exp.Expr) -> Iterable[exp.Expr]:
    node = node.unnest()
    if isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.expression)
    else:
        yield node


def _learn(facts: dict[str, _Facts], part: exp.Expr, origin: str) -> None:
    """Add what one comparison of a column with literals says; nothing for any other condition."""
    column, change = _comparison(part)
    known = facts.get(column)
    if known is None or change is None:
        return
    merged = replace(known, not_null=known.not_null or origin)
    low, high, allowed = change
    if _comparable(known.kind, [bound for bound in (low, high) if bound is not None]):
        low = max(filter(None, (known.low, low)), default=None)
        high = min(filter(None, (known.high, high)), key=lambda b: (b[0], not b[1]), default=None)
        merged = replace(merged, low=low, high=high, bounds_origin=known.bounds_origin or origin)
    if allowed is not None and known.kind == "string" and known.allowed is None:
        merged = replace(merged, allowed=allowed, bounds_origin=origin)
    facts[column] = merged


_Bound = tuple[float, bool] | None
_Change = tuple[_Bound, _Bound, tuple[str, ...] | None]


def _comparison(part: exp.Expr) -> tuple[str, _Change | None]:
    """The column and what the condition says of it; a condition that NULL cannot satisfy."""
    if isinstance(part, exp.Between):
        return _column(part.this), _bounds(part.args["low"], part.args["high"])
    if isinstance(part, exp.In) and part.expressions and not part.args.get("query"):
        return _column(part.this), (None, None, _strings(part.expressions))
    if isinstance(part, exp.Not) and isinstance(part.this, exp.Is):
        null = isinstance(part.this.expression, exp.Null)
        return _column(part.this.this), (None, None, None) if null else None
    if not isinstance(part, exp.GT | exp.GTE | exp.LT | exp.LTE | exp.EQ | exp.NEQ):
        return "", None
    kind: type[exp.Expr] = type(part)
    left, right = part.this, part.expression
    if not isinstance(left, exp.Column):
        left, right, kind = right, left, _MIRRORED.get(kind, kind)
    return _column(left), _compared(kind, right)


_MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
}


def _compared(kind: type[exp.Expr], literal: exp.Expr) -> _Change | None:
    number = _number(literal)
    if kind is exp.EQ and isinstance(literal, exp.Literal) and literal.is_string:
        return None, None, (literal.name,)
    if number is None:
        # Compared with something else: still NULL for a NULL column, if that is a plain literal.
        return (None, None, None) if isinstance(literal, exp.Literal) else None
    if kind in (exp.GT, exp.GTE):
        return (number, kind is exp.GT), None, None
    if kind in (exp.LT, exp.LTE):
        return None, (number, kind is exp.LT), None
    return ((number, False), (number, False), None) if kind is exp.EQ else (None, None, None)


def _bounds(low: exp.Expr, high: exp.Expr) -> _Change | None:
    first, last = _number(low), _number(high)
    if first is None or last is None:
        literals = isinstance(low, exp.Literal) and isinstance(high, exp.Literal)
        return (None, None, None) if literals else None
    return (first, False), (last, False), None


def _comparable(kind: str, bounds: list[tuple[float, bool]]) -> bool:
    """Whether Spark and pandas compare a column of this type with these numbers alike."""
    whole = all(isinstance(value, int) for value, _ in bounds)
    return bool(bounds) and (
        kind in ("double", "float") or ((kind in _WHOLE or kind[:7] == "decimal") and whole)
    )


def _column(node: exp.Expr, alias: str = "") -> str:
    """The column's name; empty for what is no column of the record, such as `window.start`."""
    own = isinstance(node, exp.Column) and node.table.lower() in ("", alias.lower())
    return node.name.lower() if own else ""


def _number(node: exp.Expr) -> int | float | None:
    if isinstance(node, exp.Neg):
        inner = _number(node.this)
        return None if inner is None else -inner
    if not isinstance(node, exp.Literal) or node.is_string:
        return None
    try:
        return int(node.name)
    except ValueError:
        return float(node.name)


def _strings(nodes: list[exp.Expr]) -> tuple[str, ...] | None:
    if all(isinstance(node, exp.Literal) and node.is_string for node in nodes):
        return tuple(node.name for node in nodes)
    return None
