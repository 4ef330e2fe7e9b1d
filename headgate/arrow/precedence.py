"""Where Spark and the parser disagree on what belongs together without parentheses.

Spark has all comparisons on one level, from the left, and `LIKE`, `IN`, `BETWEEN` and `IS` below them:
`a = b LIKE 'c'` is `(a = b) LIKE 'c'`. The parser binds `LIKE` and `<` tighter than `=`. The JVM lane runs
the text, as Spark reads it, so one of these is only compiled where its operands are none of them.
"""

from __future__ import annotations

from sqlglot import exp

from headgate.arrow.kinds import Unsupported
from headgate.contract.sql import to_sql

__all__ = ["PREDICATES", "bracketed"]

PREDICATES: tuple[type[exp.Expr], ...] = (
    exp.EQ,
    exp.NEQ,
    exp.LT,
    exp.LTE,
    exp.GT,
    exp.GTE,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
    exp.Is,
    exp.Like,
    exp.RegexpLike,
    exp.In,
    exp.Between,
)
_LOGIC: tuple[type[exp.Expr], ...] = (exp.Not, exp.And, exp.Or)


def bracketed(tree: exp.Expr) -> None:
    """Raises Unsupported where an operand of a comparison is another one, without parentheses around it."""
    for operand in tree.iter_expressions():
        if isinstance(operand, (*PREDICATES, *_LOGIC)):
            raise Unsupported(
                f"`{to_sql(tree)[:60]}` has comparisons in a row, which Spark may read otherwise: put "
                f"parentheses around `{to_sql(operand)[:60]}`"
            )
