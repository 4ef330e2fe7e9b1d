"""Where Spark and the parser disagree on what belongs together without parentheses.

Spark has all comparisons on one level, from the left, and `LIKE`, `IN`, `BETWEEN` and `IS` below them:
`a = b LIKE 'c'` is `(a = b) LIKE 'c'`. The parser binds `LIKE` and `<` tighter than `=`, and what it writes
for `regexp_like(a, 'b') = c` is `a RLIKE 'b' = c`, which Spark does not read at all. So a contract says with
parentheses what it means.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

__all__ = ["PREDICATES", "comparisons_in_a_row"]

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
    exp.ILike,
    exp.RegexpLike,
    exp.In,
    exp.Between,
)
_LOGIC: tuple[type[exp.Expr], ...] = (exp.Not, exp.And, exp.Or)


def comparisons_in_a_row(tree: exp.Expr) -> Iterator[exp.Expr]:
    """The operands of a comparison that are comparisons, without parentheses around them."""
    if isinstance(tree, PREDICATES):
        for operand in tree.iter_expressions():
            if isinstance(operand, (*PREDICATES, *_LOGIC)):
                yield operand
