"""Arithmetic and functions of text, with Spark's meaning (ANSI mode off)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from headgate.arrow import kernels
from headgate.arrow.kernels import Batch
from headgate.arrow.kinds import Unsupported
from headgate.arrow.nodes import (
    Compiler,
    Inner,
    Node,
    cast,
    common,
    literal,
    of_kind,
    plain_text,
    to_kind,
    unknown,
)
from headgate.arrow.operators import is_null
from headgate.arrow.regexes import like_pattern, re2_pattern
from headgate.contract.sql import to_sql

__all__ = ["FUNCTIONS", "FUNCTION_PARTS", "NAMED"]

_WHOLE = frozenset({"integer", "long"})
_NUMBERS = frozenset({*_WHOLE, "double"})
_PREFIX = re.compile(r"[^%_\\]*%", re.DOTALL)


def _try_whole(operator: str) -> Compiler:
    """`try_add` and its like: of whole numbers NULL where they do not fit, of doubles as they are."""
    plain = {"+": pc.add, "-": pc.subtract, "*": pc.multiply}[operator]

    def compiled(tree: exp.Expr, part: Inner) -> Node:
        left, right = part(tree.this), part(tree.expression)
        kind = common(left, right)
        if kind not in _NUMBERS or (kind == "long" and operator == "*"):
            raise unknown(tree)
        one, two = to_kind(left, kind).compute, to_kind(right, kind).compute
        if kind == "double":
            return Node(kind, lambda batch: plain(one(batch), two(batch)), nan=True)
        return Node(kind, lambda batch: kernels.try_whole(operator, *_filled(batch, one, two)))

    return compiled


def _divide(tree: exp.Expr, part: Inner) -> Node:
    left, right = part(tree.this), part(tree.expression)
    kinds = {left.kind, right.kind}
    if not (kinds <= _NUMBERS or kinds == {"decimal", "double"}):
        raise unknown(tree)
    one, two = to_kind(left, "double").compute, to_kind(right, "double").compute
    return Node("double", lambda batch: kernels.divide(*_filled(batch, one, two)), nan=True)


def _modulo(tree: exp.Expr, part: Inner) -> Node:
    left, right = (part(each) for each in _arguments(tree, 2))
    kind = common(left, right)
    if kind not in _WHOLE:
        raise unknown(tree)
    one, two = to_kind(left, kind).compute, to_kind(right, kind).compute
    return Node(kind, lambda batch: kernels.remainder(*_filled(batch, one, two)))


def _signed(function: Callable[[Any], Any]) -> Compiler:
    """`-x` and `abs(x)`, which go round at the smallest number as Spark's do."""

    def compiled(tree: exp.Expr, part: Inner) -> Node:
        if isinstance(tree, exp.Neg) and isinstance(tree.this, exp.Literal) and not tree.this.is_string:
            return literal(f"-{tree.this.name}")
        node = part(tree.this)
        if node.kind not in {*_NUMBERS, "float"}:
            raise unknown(tree)
        return Node(node.kind, lambda batch: function(node.compute(batch)), nan=node.nan)

    return compiled


def _length(tree: exp.Expr, part: Inner) -> Node:
    inner = of_kind(part(tree.this), "string").compute
    return Node("integer", lambda batch: pc.utf8_length(inner(batch)))


def _trim(tree: exp.Expr, part: Inner) -> Node:
    inner = of_kind(part(tree.this), "string").compute
    return Node("string", lambda batch: pc.utf8_trim(inner(batch), characters=" "))


def _matching(translate: Callable[[str], str | None]) -> Compiler:
    def compiled(tree: exp.Expr, part: Inner) -> Node:
        inner = of_kind(part(tree.this), "string").compute
        text = plain_text(tree.expression)
        if isinstance(tree, exp.Like) and _PREFIX.fullmatch(text):  # by far the faster
            return Node("boolean", lambda batch: pc.starts_with(inner(batch), pattern=text[:-1]))
        pattern = translate(text)
        if pattern is None or not _readable(pattern):
            raise Unsupported(f"the pattern of `{to_sql(tree)[:60]}` is not surely the same in RE2")
        return Node("boolean", lambda batch: pc.match_substring_regex(inner(batch), pattern))

    return compiled


def _readable(pattern: str) -> bool:
    try:
        pc.match_substring_regex(pa.array(["x"]), pattern)
    except pa.ArrowInvalid:
        return False
    return True


def _affix(function: Callable[..., Any]) -> Compiler:
    def compiled(tree: exp.Expr, part: Inner) -> Node:
        inner, text = of_kind(part(tree.this), "string").compute, plain_text(tree.expression)
        return Node("boolean", lambda batch: function(inner(batch), pattern=text))

    return compiled


def _null(tree: exp.Expr, part: Inner) -> Node:
    return is_null(part(_arguments(tree, 1)[0]))


def _not_null(tree: exp.Expr, part: Inner) -> Node:
    inner = _null(tree, part).compute
    return Node("boolean", lambda batch: pc.invert(inner(batch)))


def _filled(batch: Batch, *parts: Callable[[Batch], Any]) -> list[pa.Array]:
    return [batch.filled(part(batch)) for part in parts]


def _arguments(tree: exp.Expr, count: int) -> Sequence[exp.Expr]:
    if len(tree.expressions) != count:
        raise unknown(tree)
    return list(tree.expressions)


FUNCTION_PARTS: Mapping[type[exp.Expr], frozenset[str]] = {
    exp.Anonymous: frozenset({"this", "expressions"}),
    exp.Trim: frozenset({"this"}),
    exp.TryCast: frozenset({"this", "to", "safe"}),
}
FUNCTIONS: Mapping[type[exp.Expr], Compiler] = {
    exp.SafeAdd: _try_whole("+"),
    exp.SafeSubtract: _try_whole("-"),
    exp.SafeMultiply: _try_whole("*"),
    exp.SafeDivide: _divide,
    exp.Neg: _signed(pc.negate),
    exp.Abs: _signed(pc.abs),
    exp.TryCast: lambda tree, part: cast(tree, part(tree.this)),
    exp.Length: _length,
    exp.Trim: _trim,
    exp.Like: _matching(like_pattern),
    exp.RegexpLike: _matching(re2_pattern),
    exp.StartsWith: _affix(pc.starts_with),
    exp.EndsWith: _affix(pc.ends_with),
    exp.Contains: _affix(pc.match_substring),
}
NAMED: Mapping[str, Compiler] = {"try_mod": _modulo, "isnull": _null, "isnotnull": _not_null}
