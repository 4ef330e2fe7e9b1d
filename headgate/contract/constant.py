"""The constants that a contract's SQL computes: they fail for every record alike, or for none.

A cast of a literal is no record's fault, so it has no failure condition: `CAST('abc' AS INT)` would be NULL
in silence. Spark computes each of these once, in ANSI mode, when the contract is analysed.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from headgate.contract.kinds import is_aggregate
from headgate.contract.safe import TRY

__all__ = ["constant_parts"]

_CAN_FAIL: tuple[type[exp.Expr], ...] = (
    exp.Cast,
    *TRY,
    exp.IntDiv,
    exp.Neg,
    exp.Abs,
    exp.StrToTime,
    exp.StrToDate,
    exp.TsOrDsToDate,
    exp.StrToUnix,
    exp.ToNumber,
)
# A bare identifier is the parameter of a lambda. What makes much of little, such as `repeat('x', 999999999)`,
# is not computed for the sake of a check.
_NOT_CONSTANT: tuple[type[exp.Expr], ...] = (
    exp.Column,
    exp.Identifier,
    exp.Star,
    exp.Window,
    exp.Query,
    exp.Lambda,
    exp.UDTF,
    exp.Explode,
    exp.Inline,
    exp.Stack,
    exp.GenerateSeries,
    exp.Repeat,
    exp.Space,
    exp.Pad,
)
_GROWS = frozenset({"sequence", "array_repeat", "stack", "inline", "format_string", "printf", "reduce"})


def constant_parts(node: exp.Expr) -> list[exp.Expr]:
    """The largest parts of an expression or a query that no record takes part in and that can fail."""
    return list(_parts(node))


def _parts(node: exp.Expr) -> Iterator[exp.Expr]:
    if _is_value(node) and all(_is_constant(part) for part in node.walk()):
        if node.find(*_CAN_FAIL) is not None:
            yield node
        return
    for child in node.iter_expressions():
        if not isinstance(child, exp.DataType):
            yield from _parts(child)


def _is_constant(node: exp.Expr) -> bool:
    grows = isinstance(node, exp.Anonymous) and node.name.lower() in _GROWS
    return not (grows or isinstance(node, _NOT_CONSTANT) or is_aggregate(node))


def _is_value(node: exp.Expr) -> bool:
    """Whether it can stand alone in a SELECT: operations and functions can, clauses cannot."""
    return isinstance(node, exp.Condition) and not isinstance(node, exp.Query)
