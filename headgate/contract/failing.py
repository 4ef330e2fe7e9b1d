"""The failure condition of an expression: true when an operation had its operands and yet no result.

It is true exactly for the records for which Spark in ANSI mode raises: a branch that is not taken, and an
operand that is not looked at, cannot fail. tests/e2e/test_expressions.py holds it against Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from sqlglot import exp

from headgate.contract.safe import TRY, literal_only, plain_cast, safe

__all__ = ["any_of", "can_fail", "either", "failure_of", "operands", "unjudged"]

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


# Functions whose lambda takes one element of an array: `exists` over the same array finds one that fails.
_ELEMENT_WISE = (exp.Exists, exp.ArrayFilter, exp.Transform)


def failure_of(node: exp.Expr) -> exp.Expr | None:
    """True when an operation in the expression has its operands and no result; None when none can fail."""
    if isinstance(node, exp.Lambda | exp.Query):
        return None  # inside them a column is not the record's
    for kinds, special in _SPECIAL:
        if isinstance(node, kinds):
            return special(node)
    inner = any_of(failure_of(child) for child in operands(node))
    return either(either(inner, _element_failure(node)), _own_failure(node))


def can_fail(node: exp.Expr) -> bool:
    """Whether the outermost operation can have its operands and no result."""
    if isinstance(node, (exp.IntDiv, exp.Abs, *_CONVERSIONS)):
        return True
    if type(node) in TRY:
        return not literal_only(node)
    if isinstance(node, exp.Neg):
        return not isinstance(node.this, exp.Literal)
    return plain_cast(node) and not node.args["to"].is_type("text")


def unjudged(node: exp.Expr) -> Iterator[exp.Expr]:
    """Operations that can fail in a lambda of which no failure condition can be made."""
    for found in node.find_all(exp.Lambda):
        if _element_lambda(found.parent) is not found:
            yield from (part for part in found.this.walk() if can_fail(part))


def _element_lambda(node: exp.Expr | None) -> exp.Lambda | None:
    """The lambda of a function that calls it with each element of an array, and with nothing else."""
    if isinstance(node, _ELEMENT_WISE):
        found = node.expression
    elif isinstance(node, exp.Anonymous) and node.name.lower() == "forall" and len(node.expressions) == 2:
        found = node.expressions[1]
    else:
        return None
    return found if isinstance(found, exp.Lambda) and len(found.expressions) == 1 else None


def _element_failure(node: exp.Expr) -> exp.Expr | None:
    """An element for which the lambda fails. Where Spark stops at the first answer it may not come to that
    element; which one comes first is no reason to take the record."""
    function = _element_lambda(node)
    failure = failure_of(function.this) if function is not None else None
    if function is None or failure is None:
        return None
    array = node.expressions[0] if isinstance(node, exp.Anonymous) else node.this
    known = exp.Coalesce(this=failure, expressions=[exp.false()])
    parameter = function.expressions[0].copy()
    return exp.Exists(this=safe(array), expression=exp.Lambda(this=known, expressions=[parameter]))


def _own_failure(node: exp.Expr) -> exp.Expr | None:
    """The failure of the outermost operation alone."""
    if not can_fail(node):
        return None
    if isinstance(node, exp.IntDiv):
        return either(_has_operands_no_result([node.this, node.expression], safe(node)), _wrapped(node))
    if type(node) in TRY:
        return _has_operands_no_result([node.this, node.expression], safe(node))
    zero = exp.Literal.number(0)
    if isinstance(node, exp.Neg):
        # Only the smallest whole number has no positive twin: it is negative, and its negative is too.
        before = exp.LT(this=_paren(safe(node.this)), expression=zero)
        return exp.And(this=before, expression=exp.LT(this=_paren(safe(node)), expression=zero.copy()))
    if isinstance(node, exp.Abs):
        return exp.LT(this=safe(node), expression=zero)
    return _has_operands_no_result([node.this], safe(node))


def _paren(node: exp.Expr) -> exp.Expr:
    return exp.paren(node, copy=False)


def _wrapped(node: exp.IntDiv) -> exp.Expr:
    """Of all quotients of whole numbers one is too large: the smallest number by minus one."""
    signs = [
        exp.LT(this=_paren(safe(part)), expression=exp.Literal.number(0))
        for part in (node.this, node.expression, node)
    ]
    return exp.And(this=exp.And(this=signs[0], expression=signs[1]), expression=signs[2])


def _has_operands_no_result(operands: Sequence[exp.Expr], result: exp.Expr) -> exp.Expr:
    condition: exp.Expr = exp.Is(this=_paren(result), expression=exp.null())
    for operand in reversed(operands):
        if not isinstance(operand, exp.Literal):
            present = exp.Not(this=exp.Is(this=_paren(safe(operand)), expression=exp.null()))
            condition = exp.And(this=present, expression=condition)
    return _paren(condition)


def operands(node: exp.Expr) -> list[exp.Expr]:
    return [child for child in node.iter_expressions() if not isinstance(child, exp.DataType)]


def _case_failure(node: exp.Expr) -> exp.Expr | None:
    subject = node.this
    branches = []
    for branch in node.args["ifs"]:
        condition = exp.EQ(this=subject.copy(), expression=branch.this.copy()) if subject else branch.this
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
        present = exp.Not(this=exp.Is(this=_paren(safe(first)), expression=exp.null()))
        later = exp.And(this=present, expression=_paren(later))
    return either(either(failure_of(first), later), _own_failure(node))


def _coalesce_failure(node: exp.Expr) -> exp.Expr | None:
    """A later value counts only when those before it are NULL."""
    rest: exp.Expr | None = None
    for value in reversed([node.this, *node.expressions]):
        if rest is not None:
            missing = exp.Is(this=_paren(safe(value)), expression=exp.null())
            rest = exp.And(this=missing, expression=_paren(rest))
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
        guard = exp.NullSafeNEQ(this=_paren(safe(node.this)), expression=decides)
        right = exp.And(this=guard, expression=_paren(right))
    return either(left, right)


def either(left: exp.Expr | None, right: exp.Expr | None) -> exp.Expr | None:
    if left is None or right is None:
        return left or right
    return _paren(exp.Or(this=_paren(left), expression=_paren(right)))


def any_of(conditions: Iterable[exp.Expr | None]) -> exp.Expr | None:
    """Joined as a balanced tree: a chain over some hundred columns would be too deep to be written out."""
    found = [condition for condition in conditions if condition is not None]
    while len(found) > 1:
        pairs = [(found[i], found[i + 1] if i + 1 < len(found) else None) for i in range(0, len(found), 2)]
        found = [joined for pair in pairs if (joined := either(*pair)) is not None]
    return found[0] if found else None


_SPECIAL: Sequence[tuple[tuple[type[exp.Expr], ...], Callable[[exp.Expr], exp.Expr | None]]] = (
    ((exp.Case,), _case_failure),
    ((exp.If,), _if_failure),
    ((exp.Coalesce,), _coalesce_failure),
    ((exp.Between,), _between_failure),
    ((exp.And, exp.Or), _logical_failure),
    (_BINARY, _binary_failure),
)
