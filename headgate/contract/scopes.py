"""Finds, in a whole query, what is computed of each record, and what can fail without a record to blame.

A SELECT that reads one source, wherever it stands, computes its expressions per record of that source:
what can fail there gets a failure condition. An operation over aggregates is a group's, and NULL when it
fails (see the ADR). Every other operation that can fail has nobody to send to the quarantine, and `plan`
refuses it: rewritten to its `try_` form it would be NULL in silence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from headgate.contract.failing import any_of, can_fail, either, failure_of, operands, unjudged
from headgate.contract.kinds import computed_per_record, is_aggregate, is_window
from headgate.contract.safe import safe

__all__ = ["Verdict", "judge"]

_CONDITIONAL = (exp.Case, exp.If, exp.Coalesce, exp.And, exp.Or)
_EXPRESSIONS = ("expressions", "where", "group", "having")
# What a window's bound, a timestamp of this age of the world, can always be cast to.
_OF_A_MOMENT = (
    "text",
    "date",
    "timestamp",
    "timestamptz",
    "timestampltz",
    "timestampntz",
    "bigint",
    "double",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The failure condition of each source's records, and the operations that none of them covers."""

    failures: Mapping[str, exp.Expr]
    uncovered: tuple[exp.Expr, ...]


def judge(query: exp.Select, sources: Mapping[str, Sequence[str]]) -> Verdict:
    """`sources`: the name of each to the columns that SQL sees."""
    shadowed = {cte.alias_or_name.lower() for cte in query.find_all(exp.CTE)}
    found: dict[str, list[exp.Expr]] = {}
    uncovered: list[exp.Expr] = []
    for select in query.find_all(exp.Select):
        table = _only_table(select)
        source = table.name if table is not None and table.name.lower() not in shadowed else None
        columns = sources.get(source, ()) if source is not None else ()
        scope = _Scope({column.lower() for column in columns}, table.alias_or_name if table else "")
        failure = scope.failure(select)
        if failure is not None and source is not None:
            found.setdefault(source, []).append(failure)
        uncovered.extend(scope.uncovered)
    failures = {name: joined for name, each in found.items() if (joined := any_of(each)) is not None}
    return Verdict(failures, tuple(uncovered))


def _only_table(select: exp.Select) -> exp.Table | None:
    """The table of a SELECT that reads nothing else."""
    clause = select.args.get("from_")
    if clause is None or select.args.get("joins") or select.args.get("laterals"):
        return None
    table = clause.this
    return table if isinstance(table, exp.Table) and not table.args.get("joins") else None


def _is_shift(node: exp.Expr) -> bool:
    """A column's or window's moment and some units more or less, as joins of streams have them. A moment
    that was read lies in the years 1 to 9999, and this far away is still one."""
    if not isinstance(node, exp.Add | exp.Sub) or not isinstance(node.expression, exp.Interval):
        return False
    amount = node.expression.this
    if not isinstance(amount, exp.Literal) or not (amount.name.isdecimal() and len(amount.name) <= 4):
        return False
    moment = node.this
    while isinstance(moment, exp.Paren | exp.Dot):
        moment = moment.this
    return isinstance(moment, exp.Column) or is_window(moment)


def _is_query(node: exp.Expr) -> bool:
    return isinstance(node, exp.Query)


@dataclass(slots=True)
class _Scope:
    """One SELECT: `known` are its source's columns in lower case, none where it reads anything else."""

    known: set[str]
    table: str
    uncovered: list[exp.Expr] = field(default_factory=list)
    _aliases: dict[str, exp.Expr] = field(default_factory=dict)

    def failure(self, select: exp.Select) -> exp.Expr | None:
        where = select.args.get("where")
        condition = self._own(where.this) if where is not None else None
        filtered = self._failure(condition) if condition is not None else None
        projected = []
        for column in select.expressions:
            mine = self._own(column.unalias())
            projected.append(self._failure(mine))
            if isinstance(column, exp.Alias):
                self._aliases.setdefault(column.alias.lower(), mine)
        for clause in (select.args.get("group"), select.args.get("having")):
            parts = clause.iter_expressions() if clause is not None else ()
            projected.extend(self._failure(self._own(part)) for part in parts)
        self._elsewhere(select)
        kept = any_of(projected)
        if condition is not None and kept is not None:
            # A record that the WHERE leaves out is not computed; one for which WHERE itself fails is.
            kept = self._where(condition, kept)
        return either(filtered, kept)

    def _where(self, condition: exp.Expr, failure: exp.Expr) -> exp.Expr | None:
        """The failure of records that a condition lets through; a subquery's answer is not the record's."""
        if not computed_per_record(condition, self.known):
            self.uncovered.append(condition)
            return None
        return exp.And(this=exp.paren(safe(condition), copy=False), expression=exp.paren(failure, copy=False))

    def _elsewhere(self, select: exp.Select) -> None:
        """Joins, lateral views and the like: what can fail there is no single record's."""
        for name in set(select.args) - set(_EXPRESSIONS):
            value = select.args[name]
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, exp.Expr):
                    inside = part.walk(prune=_is_query)
                    self.uncovered.extend(node for node in inside if can_fail(node) and not _is_shift(node))

    def _own(self, node: exp.Expr) -> exp.Expr:
        """The expression over the record's own columns: without the table's alias, and with what an alias of
        an earlier column stands for."""
        root = exp.paren(node.copy(), copy=False)
        for column in list(root.find_all(exp.Column)):
            parts = column.parts
            if len(parts) > 1 and parts[0].name.lower() == self.table.lower():
                parts = parts[1:]
            name = parts[0].name.lower()
            if len(parts) == 1 and name not in self.known and name in self._aliases:
                column.replace(exp.paren(self._aliases[name].copy(), copy=False))
            elif len(parts) < len(column.parts):
                column.replace(exp.column(*reversed([part.copy() for part in parts])))  # type: ignore[call-overload]
        own: exp.Expr = root.this
        return own

    def _failure(self, node: exp.Expr, *, guarded: bool = False) -> exp.Expr | None:
        """The failure of what is computed per record in an expression that may be a group's."""
        if isinstance(node, exp.Query):
            return None  # a scope of its own
        if computed_per_record(node, self.known):
            self.uncovered.extend(unjudged(node))
            failure = failure_of(node)
            if failure is not None and guarded:
                self.uncovered.append(node)  # whether it is computed is for the group to say
            return failure
        if isinstance(node, exp.Filter):
            return self._filtered(node)
        if can_fail(node) and not self._of_group(node):
            self.uncovered.append(node)
        guarded = (guarded or isinstance(node, _CONDITIONAL)) and not is_aggregate(node)
        return any_of([self._failure(part, guarded=guarded) for part in operands(node)])

    def _filtered(self, node: exp.Filter) -> exp.Expr | None:
        """`sum(x) FILTER (WHERE y)`: y of each record, and x where it is true."""
        condition = node.expression.this
        first, value = self._failure(condition), self._failure(node.this)
        return either(first, self._where(condition, value) if value is not None else None)

    def _of_group(self, node: exp.Expr) -> bool:
        """Whether an operation is a group's: over aggregates, or one that cannot fail."""
        if any(is_aggregate(part) for part in node.walk(prune=_is_query)):
            return True
        if isinstance(node, exp.Cast):
            return self._is_bound(node.this) and node.args["to"].is_type(*_OF_A_MOMENT)
        return _is_shift(node)

    def _is_bound(self, node: exp.Expr) -> bool:
        if isinstance(node, exp.Paren | exp.Dot):
            return self._is_bound(node.this)
        return is_window(node, self.known)
