"""Comparisons, logic with three values, and choices, with Spark's meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from headgate.arrow import kernels
from headgate.arrow.kernels import Batch
from headgate.arrow.kinds import KINDS, Unsupported
from headgate.arrow.nodes import Compiler, Inner, Node, common, literal, of_kind, to_kind, unknown

__all__ = ["OPERATORS", "OPERATOR_PARTS", "is_null"]


def _comparison(operator: str) -> Compiler:
    return lambda tree, part: _compare(operator, part(tree.this), part(tree.expression))


def _compare(operator: str, left: Node, right: Node) -> Node:
    kind = _comparable(left, right)
    if kind in {"boolean", "binary"} and operator not in {"=", "<>"}:
        raise Unsupported(f"values of type {kind} are not ordered here")
    one, two, nan = to_kind(left, kind).compute, to_kind(right, kind).compute, left.nan or right.nan
    return Node("boolean", lambda batch: kernels.compare(operator, one(batch), two(batch), nan=nan))


def _comparable(left: Node, right: Node) -> str:
    kind = common(left, right)
    if kind == "null":
        raise Unsupported("NULL is compared with NULL, which Arrow has no operation for")
    return kind


def _same(tree: exp.Expr, part: Inner) -> Node:
    left, right = part(tree.this), part(tree.expression)
    kind, nan = _comparable(left, right), left.nan or right.nan
    one, two = to_kind(left, kind).compute, to_kind(right, kind).compute
    return Node("boolean", lambda batch: kernels.null_safe_equal(one(batch), two(batch), nan=nan))


def _different(tree: exp.Expr, part: Inner) -> Node:
    same = _same(tree, part).compute
    return Node("boolean", lambda batch: pc.invert(same(batch)))


def _logical(join: Callable[[Any, Any], Any]) -> Compiler:
    def compiled(tree: exp.Expr, part: Inner) -> Node:
        one, two = (of_kind(part(each), "boolean").compute for each in (tree.this, tree.expression))
        return Node("boolean", lambda batch: join(one(batch), two(batch)))

    return compiled


def _not(tree: exp.Expr, part: Inner) -> Node:
    inner = of_kind(part(tree.this), "boolean").compute
    return Node("boolean", lambda batch: pc.invert(inner(batch)))


def _is(tree: exp.Expr, part: Inner) -> Node:
    if not isinstance(tree.expression, exp.Null):
        raise unknown(tree)
    return is_null(part(tree.this))


def is_null(node: Node) -> Node:
    return Node("boolean", lambda batch: pc.is_null(node.compute(batch)))


def _between(tree: exp.Expr, part: Inner) -> Node:
    value = part(tree.this)
    low = _compare(">=", value, part(tree.args["low"])).compute
    high = _compare("<=", value, part(tree.args["high"])).compute
    return Node("boolean", lambda batch: pc.and_kleene(low(batch), high(batch)))


def _in(tree: exp.Expr, part: Inner) -> Node:
    value, listed = part(tree.this), [part(each) for each in tree.expressions]
    kind = common(value, *listed)
    if not listed or kind in {"boolean", "binary", "null"} or not all(each.constant for each in listed):
        raise unknown(tree)
    if kind in {"float", "double"}:  # hashing would tell the two zeros apart, which are equal
        return _in_floats(value, listed)
    nothing = Batch({}, 0)
    known = pa.array([to_kind(each, kind).compute(nothing).as_py() for each in listed], KINDS[kind])
    inner = to_kind(value, kind).compute
    return Node("boolean", lambda batch: kernels.in_list(inner(batch), known))


def _in_floats(value: Node, listed: Sequence[Node]) -> Node:
    parts = [_compare("=", value, each).compute for each in listed]
    return Node("boolean", lambda batch: reduce(pc.or_kleene, (part(batch) for part in parts)))


def _case(tree: exp.Expr, part: Inner) -> Node:
    subject = part(tree.this) if tree.this is not None else None
    pairs = []
    for branch in tree.args["ifs"]:
        found = part(branch.this)
        condition = of_kind(found, "boolean") if subject is None else _compare("=", subject, found)
        pairs.append((condition, part(branch.args["true"])))
    return _chosen(pairs, _or_null(tree.args.get("default"), part))


def _if(tree: exp.Expr, part: Inner) -> Node:
    pair = (of_kind(part(tree.this), "boolean"), part(tree.args["true"]))
    return _chosen([pair], _or_null(tree.args.get("false"), part))


def _or_null(tree: exp.Expr | None, part: Inner) -> Node:
    return literal(None) if tree is None else part(tree)


def _chosen(pairs: Sequence[tuple[Node, Node]], otherwise: Node) -> Node:
    values = [value for _, value in pairs]
    kind = common(*values, otherwise)
    if kind == "null":
        return literal(None)
    branches = [(condition.compute, to_kind(value, kind).compute) for condition, value in pairs]
    last = to_kind(otherwise, kind).compute

    def compute(batch: Batch) -> Any:
        return kernels.choose([(met(batch), value(batch)) for met, value in branches], last(batch))

    return Node(kind, compute, nan=any(each.nan for each in (*values, otherwise)))


def _coalesce(tree: exp.Expr, part: Inner) -> Node:
    nodes = [part(each) for each in (tree.this, *tree.expressions)]
    kind = common(*nodes)
    if kind == "null":
        return literal(None)
    computed = [to_kind(node, kind).compute for node in nodes]
    nan = any(node.nan for node in nodes)
    return Node(kind, lambda batch: pc.coalesce(*(each(batch) for each in computed)), nan=nan)


OPERATOR_PARTS: Mapping[type[exp.Expr], frozenset[str]] = {
    exp.Between: frozenset({"this", "low", "high"}),
    exp.Case: frozenset({"this", "ifs", "default"}),
    exp.Coalesce: frozenset({"this", "expressions"}),
    exp.If: frozenset({"this", "true", "false"}),
    exp.In: frozenset({"this", "expressions"}),
}
OPERATORS: Mapping[type[exp.Expr], Compiler] = {
    exp.EQ: _comparison("="),
    exp.NEQ: _comparison("<>"),
    exp.LT: _comparison("<"),
    exp.LTE: _comparison("<="),
    exp.GT: _comparison(">"),
    exp.GTE: _comparison(">="),
    exp.NullSafeEQ: _same,
    exp.NullSafeNEQ: _different,
    exp.And: _logical(pc.and_kleene),
    exp.Or: _logical(pc.or_kleene),
    exp.Not: _not,
    exp.Is: _is,
    exp.Between: _between,
    exp.In: _in,
    exp.Case: _case,
    exp.If: _if,
    exp.Coalesce: _coalesce,
}
