"""What a part of a query is computed from: one record, or a group of them."""

from __future__ import annotations

from collections.abc import Collection

from sqlglot import exp

__all__ = ["computed_per_record", "is_aggregate", "is_window"]

# Aggregates that sqlglot has no class for, or not one of aggregates.
_MORE_AGGREGATES = frozenset({"try_sum", "try_avg", "every", "some", "histogram_numeric"})
_WINDOWS = frozenset({"window", "session_window", "window_time"})


def is_aggregate(node: exp.Expr) -> bool:
    """Whether it is computed from many records; `any(…)` over a condition is, over a subquery is not."""
    if isinstance(node, exp.AggFunc):
        return True
    if isinstance(node, exp.Any):
        return not isinstance(node.this, exp.Query | exp.Subquery)
    return isinstance(node, exp.Anonymous) and node.name.lower() in _MORE_AGGREGATES


def is_window(node: exp.Expr, known: Collection[str] = ()) -> bool:
    """Whether it is a time window itself, by its function or by the column that a grouping gives it; `known`
    are the columns of the source, which may have one of that name."""
    if isinstance(node, exp.Anonymous):
        return node.name.lower() in _WINDOWS
    return isinstance(node, exp.Column) and node.parts[0].name.lower() in _WINDOWS - set(known)


def computed_per_record(node: exp.Expr, known: Collection[str]) -> bool:
    """Whether it is computed from columns of one record alone; `known` are their names in lower case."""
    return not any(
        isinstance(part, exp.Query | exp.UDTF)
        or is_aggregate(part)
        or is_window(part, known)
        or (isinstance(part, exp.Column) and part.parts[0].name.lower() not in known)
        for part in node.walk()
    )
