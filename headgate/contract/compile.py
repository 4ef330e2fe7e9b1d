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

from headgate.contract.model import Contract, Source
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

_TRY: dict[type[exp.Expr], str] = {
    exp.Add: "try_add",
    exp.Sub: "try_subtract",
    exp.Mul: "try_multiply",
    exp.Div: "try_divide",
    exp.Mod: "try_mod",
}
_CONVERSIONS: tuple[type[exp.Expr], ...] = (
    exp.StrToTime,
    exp.StrToDate,
    exp.TsOrDsToDate,
    exp.StrToUnix,
    exp.ToNumber,
)


def source_columns(source: Source) -> list[str]:
    """The columns SQL sees for a source: the contract's own, the text line, and where a record is from."""
    own = [column.name for column in source.columns]
    line = ["line"] if source.format == "text" and "line" not in own else []
    return [*own, *line, "_key", "_topic", "_partition", "_offset", "_arrival"]


def safe(node: exp.Expr) -> exp.Expr:
    """The same expression with every operation that can fail in its `try_` form."""
    copy = node.copy()
    root = exp.paren(copy, copy=False)
    for part in reversed(
        list(copy.walk(bfs=False))
    ):  # leaves first: a replaced node takes its children along
        replacement = _safe_part(part)
        if replacement is not None:
            part.replace(replacement)
    result: exp.Expr = root.this
    return result


def _safe_part(part: exp.Expr) -> exp.Expr | None:
    name = _TRY.get(type(part))
    if name is not None and not _literal_only(part):
        return exp.Anonymous(this=name, expressions=[part.this, part.expression])
    if _plain_cast(part):
        return exp.TryCast(this=part.this, to=part.args["to"], safe=True)
    if type(part) is exp.Sum:
        return exp.Anonymous(this="try_sum", expressions=[part.this])
    return None


def _plain_cast(node: exp.Expr) -> bool:
    """A cast that the author did not write as `try_cast` (sqlglot's mark for that is `safe`)."""
    return isinstance(node, exp.Cast) and not node.args.get("safe") and not isinstance(node.this, exp.Literal)


def failure_of(node: exp.Expr) -> exp.Expr | None:
    """True when an operation in the expression has its operands and no result; None when none can fail."""
    if isinstance(node, exp.Case):
        return _case_failure(node)
    if isinstance(node, exp.If):
        return _branch_failure([(node.this, node.args["true"])], node.args.get("false"))
    if isinstance(node, exp.Coalesce):
        return _coalesce_failure([node.this, *node.expressions])
    if isinstance(node, exp.And | exp.Or):
        return _logical_failure(node)
    if isinstance(node, exp.Lambda | exp.Query):
        return None  # inside them a column is not the record's
    inner = _any(failure_of(child) for child in _operands(node))
    return _or(inner, _own_failure(node))


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
    projected = _any(_record_failure(part, known, alias) for part in parts)
    if where is None:
        return projected
    # A record that the WHERE leaves out is not computed; one for which WHERE itself fails is.
    filtered = _record_failure(where.this, known, alias)
    kept = (
        None
        if projected is None
        else exp.And(this=exp.paren(safe(where.this)), expression=exp.paren(projected))
    )
    return _or(filtered, kept)


def _record_failure(node: exp.Expr, known: set[str], alias: str) -> exp.Expr | None:
    """The failure of what is computed per record: the whole of a plain expression, or the arguments of
    its aggregates; what is computed from aggregates is not one record's."""
    if isinstance(node, exp.Alias):
        node = node.this
    aggregates = list(node.find_all(exp.AggFunc))
    parts = [a.this for a in aggregates if isinstance(a.this, exp.Expr)] if aggregates else [node]
    usable = [part for part in parts if _only_columns(part, known, alias)]
    return _any(failure_of(_unqualified(part)) for part in usable)


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


def _own_failure(node: exp.Expr) -> exp.Expr | None:
    """The failure of the outermost operation alone."""
    if isinstance(node, exp.IntDiv) or (type(node) in _TRY and not _literal_only(node)):
        return _has_operands_no_result([node.this, node.expression], safe(node))
    if _plain_cast(node) or isinstance(node, _CONVERSIONS):
        return _has_operands_no_result([node.this], safe(node))
    zero = exp.Literal.number(0)
    if isinstance(node, exp.Neg) and not isinstance(node.this, exp.Literal):
        # Only the smallest whole number has no positive twin: it is negative, and its negative is too.
        before = exp.LT(this=exp.paren(safe(node.this)), expression=zero)
        return exp.And(this=before, expression=exp.LT(this=exp.paren(safe(node)), expression=zero.copy()))
    if isinstance(node, exp.Abs):
        return exp.LT(this=safe(node), expression=zero)
    return None


def _has_operands_no_result(operands: Sequence[exp.Expr], result: exp.Expr) -> exp.Expr:
    condition: exp.Expr = exp.Is(this=exp.paren(result), expression=exp.null())
    for operand in reversed(operands):
        if not isinstance(operand, exp.Literal):
            present = exp.Not(this=exp.Is(this=exp.paren(safe(operand)), expression=exp.null()))
            condition = exp.And(this=present, expression=condition)
    return exp.paren(condition)


def _operands(node: exp.Expr) -> list[exp.Expr]:
    return [child for child in node.iter_expressions() if not isinstance(child, exp.DataType)]


def _case_failure(node: exp.Case) -> exp.Expr | None:
    subject = node.this
    branches = []
    for branch in node.args["ifs"]:
        condition = exp.EQ(this=subject, expression=branch.this) if subject else branch.this
        branches.append((condition, branch.args["true"]))
    return _or(failure_of(subject) if subject else None, _branch_failure(branches, node.args.get("default")))


def _branch_failure(
    branches: Sequence[tuple[exp.Expr, exp.Expr]], default: exp.Expr | None
) -> exp.Expr | None:
    """The failure of the branch that is taken, or of a condition looked at on the way."""
    rest = failure_of(default) if default is not None else None
    for condition, value in reversed(branches):
        taken = failure_of(value)
        if taken is not None or rest is not None:
            rest = exp.Case(
                ifs=[exp.If(this=safe(condition), true=taken or exp.false())], default=rest or exp.false()
            )
        rest = _or(failure_of(condition), rest)
    return rest


def _coalesce_failure(values: Sequence[exp.Expr]) -> exp.Expr | None:
    """A later value counts only when those before it are NULL."""
    rest: exp.Expr | None = None
    for value in reversed(values):
        if rest is not None:
            missing = exp.Is(this=exp.paren(safe(value)), expression=exp.null())
            rest = exp.And(this=missing, expression=exp.paren(rest))
        rest = _or(failure_of(value), rest)
    return rest


def _logical_failure(node: exp.And | exp.Or) -> exp.Expr | None:
    """`a AND b`: b counts unless a is false; `a OR b`: b counts unless a is true."""
    left, right = failure_of(node.this), failure_of(node.expression)
    if right is not None:
        decides = exp.false() if isinstance(node, exp.And) else exp.true()
        guard = exp.NullSafeNEQ(this=exp.paren(safe(node.this)), expression=decides)
        right = exp.And(this=guard, expression=exp.paren(right))
    return _or(left, right)


def _literal_only(node: exp.Expr) -> bool:
    return node.find(exp.Column) is None


def _or(left: exp.Expr | None, right: exp.Expr | None) -> exp.Expr | None:
    if left is None or right is None:
        return left or right
    return exp.paren(exp.Or(this=exp.paren(left), expression=exp.paren(right)))


def _any(conditions: Iterable[exp.Expr | None]) -> exp.Expr | None:
    result: exp.Expr | None = None
    for condition in conditions:
        result = _or(result, condition)
    return result
