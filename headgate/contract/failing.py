"""The failure condition of an expression: true when an operation had its operands and yet no result.

It is true exactly for the records for which Spark in ANSI mode raises: a branch that is not taken, and an
operand that is not looked at, cannot fail. tests/e2e/test_expressions.py holds it against Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sqlglot import exp

from headgate.contract.safe import TRY, literal_only, plain_cast, safe

__all__ = ["any_of", "either", "failure_of"]

# Operators that look at their second operand only when the first one is there. For those of division the
# divisor is the first one.
_DIVISIONS = (exp.Div, exp.Mod, exp.IntDiv)
_BINARY = (exp.Add, exp.Sub, exp.Mul, *_DIVISIONS, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_CONVERSIONS: tuple[type[exp.Expr], ...] = (
    exp.StrToTime,
    exp.StrToDate,
    exp.TsOrDsToDate,
    exp.StrToUnix,
    exp.ToNumber,
)


def failure_of(node: exp.Expr) -> exp.Expr | None:
    """True when an operation in the expression has its operands and no result; None when none can fail."""
    if isinstance(node, exp.Lambda | exp.Query):
        return None  # inside them a column is not the record's
    for kinds, special in _SPECIAL:
        if isinstance(node, kinds):
            return special(node)
    inner = any_of(failure_of(child) for child in _operands(node))
    return either(inner, _own_failure(node))


def _own_failure(node: exp.Expr) -> exp.Expr | None:
    """The failure of the outermost operation alone."""
    if isinstance(node, exp.IntDiv):
        return either(_has_operands_no_result([node.this, node.expression], safe(node)), _wrapped(node))
    if type(node) in TRY and not literal_only(node):
        return _has_operands_no_result([node.this, node.expression], safe(node))
    if plain_cast(node) or isinstance(node, _CONVERSIONS):
        return _has_operands_no_result([node.this], safe(node))
    zero = exp.Literal.number(0)
    if isinstance(node, exp.Neg) and not isinstance(node.this, exp.Literal):
        # Only the smallest whole number has no positive twin: it is negative, and its negative is too.
        before = exp.LT(this=exp.paren(safe(node.this)), expression=zero)
        return exp.And(this=before, expression=exp.LT(this=exp.paren(safe(node)), expression=zero.copy()))
    if isinstance(node, exp.Abs):
        return exp.LT(this=safe(node), expression=zero)
    return None


def _wrapped(node: exp.IntDiv) -> exp.Expr:
    """Of all quotients of whole numbers one is too large: the smallest number by minus one."""
    signs = [
        exp.LT(this=exp.paren(safe(part)), expression=exp.Literal.number(0))
        for part in (node.this, node.expression, node)
    ]
    return exp.And(this=exp.And(this=signs[0], expression=signs[1]), expression=signs[2])


def _has_operands_no_result(operands: Sequence[exp.Expr], result: exp.Expr) -> exp.Expr:
    condition: exp.Expr = exp.Is(this=exp.paren(result), expression=exp.null())
    for operand in reversed(operands):
        if not isinstance(operand, exp.Literal):
            present = exp.Not(this=exp.Is(this=exp.paren(safe(operand)), expression=exp.null()))
            condition = exp.And(this=present, expression=condition)
    return exp.paren(condition)


def _operands(node: exp.Expr) -> list[exp.Expr]:
    return [child for child in node.iter_expressions() if not isinstance(child, exp.DataType)]


def _case_failure(node: exp.Expr) -> exp.Expr | None:
    subject = node.this
    branches = []
    for branch in node.args["ifs"]:
        condition = exp.EQ(this=subject, expression=branch.this) if subject else branch.this
        branches.append((condition, branch.args["true"]))
    return either(
        failure_of(subject) if subject else None, _branch_failure(branches, node.args.get("default"))
    )


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
        rest = either(failure_of(condition), rest)
    return rest


def _binary_failure(node: exp.Expr) -> exp.Expr | None:
    """NULL for the first operand is the result; only otherwise the second one is computed."""
    first, second = node.this, node.expression
    if isinstance(node, _DIVISIONS):
        first, second = second, first
    later = failure_of(second)
    if later is not None and not isinstance(first, exp.Literal):
        present = exp.Not(this=exp.Is(this=exp.paren(safe(first)), expression=exp.null()))
        later = exp.And(this=present, expression=exp.paren(later))
    return either(either(failure_of(first), later), _own_failure(node))


def _coalesce_failure(node: exp.Expr) -> exp.Expr | None:
    """A later value counts only when those before it are NULL."""
    rest: exp.Expr | None = None
    for value in reversed([node.this, *node.expressions]):
        if rest is not None:
            missing = exp.Is(this=exp.paren(safe(value)), expression=exp.null())
            rest = exp.And(this=missing, expression=exp.paren(rest))
        rest = either(failure_of(value), rest)
    return rest


def _if_failure(node: exp.Expr) -> exp.Expr | None:
    return _branch_failure([(node.this, node.args["true"])], node.args.get("false"))


def _between_failure(node: exp.Expr) -> exp.Expr | None:
    low, high = node.args["low"], node.args["high"]
    return _logical_failure(
        exp.And(
            this=exp.GTE(this=node.this.copy(), expression=low.copy()),
            expression=exp.LTE(this=node.this.copy(), expression=high.copy()),
        )
    )


def _logical_failure(node: exp.Expr) -> exp.Expr | None:
    """`a AND b`: b counts unless a is false; `a OR b`: b counts unless a is true."""
    left, right = failure_of(node.this), failure_of(node.expression)
    if right is not None:
        decides = exp.false() if isinstance(node, exp.And) else exp.true()
        guard = exp.NullSafeNEQ(this=exp.paren(safe(node.this)), expression=decides)
        right = exp.And(this=guard, expression=exp.paren(right))
    return either(left, right)


def either(left: exp.Expr | None, right: exp.Expr | None) -> exp.Expr | None:
    if left is None or right is None:
        return left or right
    return exp.paren(exp.Or(this=exp.paren(left), expression=exp.paren(right)))


def any_of(conditions: Iterable[exp.Expr | None]) -> exp.Expr | None:
    result: exp.Expr | None = None
    for condition in conditions:
        result = either(result, condition)
    return result


_SPECIAL: Sequence[tuple[tuple[type[exp.Expr], ...], Callable[[exp.Expr], exp.Expr | None]]] = (
    ((exp.Case,), _case_failure),
    ((exp.If,), _if_failure),
    ((exp.Coalesce,), _coalesce_failure),
    ((exp.Between,), _between_failure),
    ((exp.And, exp.Or), _logical_failure),
    (_BINARY, _binary_failure),
)
