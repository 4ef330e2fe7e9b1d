"""Nodes of a compiled expression: their types, and how Spark makes one type of two."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from headgate.arrow.convert import moments
from headgate.arrow.kernels import Batch
from headgate.arrow.kinds import KINDS, Unsupported
from headgate.contract.sql import to_sql

__all__ = [
    "Compiler",
    "Inner",
    "Node",
    "cast",
    "common",
    "constant_node",
    "literal",
    "of_kind",
    "plain_text",
    "to_kind",
    "unknown",
]

Inner = Callable[[exp.Expr], "Node"]  # compiles a part of an expression
Compiler = Callable[[exp.Expr, Inner], "Node"]

_WIDER = ("integer", "long", "float", "double")
_WHOLE = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"-?(?:[0-9]+\.[0-9]*|\.[0-9]+)")
_EXPONENT = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]+")
_CASTS = {"int": "integer", "integer": "integer", "bigint": "long", "long": "long", "double": "double"}


@dataclass(frozen=True, slots=True)
class Node:
    """`kind` is a name of `KINDS`, `null`, or `decimal`, which only a literal is. What is computed is a
    column or a scalar. `nan`: whether it may hold NaN, which no column that was read does."""

    kind: str
    compute: Callable[[Batch], Any]
    nan: bool = False
    constant: bool = False


def literal(text: str | None, *, is_text: bool = False) -> Node:
    """A literal as Spark reads it: a number's type is that of the first that it fits in."""
    if text is None:
        return constant_node("null", pa.scalar(None))
    if is_text:
        return _constant("string", text)
    if _WHOLE.fullmatch(text):
        number = int(text)
        for kind, bits in (("integer", 31), ("long", 63)):
            if -(2**bits) <= number < 2**bits:
                return _constant(kind, number)
    if _EXPONENT.fullmatch(text):
        return _constant("double", float(text))
    if _DECIMAL.fullmatch(text) and len(text) <= 38:
        return constant_node("decimal", pa.scalar(float(text)))
    raise Unsupported(f"`{text[:60]}` is not known to the Arrow lane")


def _constant(kind: str, value: Any) -> Node:
    return constant_node(kind, pa.scalar(value, KINDS[kind]))


def constant_node(kind: str, scalar: pa.Scalar) -> Node:
    return Node(kind, lambda _: scalar, constant=True)


def of_kind(node: Node, kind: str) -> Node:
    """The node, where it is of this type or NULL. Raises Unsupported."""
    if node.kind not in (kind, "null"):
        raise Unsupported(f"a value of type {node.kind} stands where one of type {kind} should")
    return to_kind(node, kind)


def plain_text(tree: exp.Expr) -> str:
    """A literal without escapes, of which each parser has an idea of its own."""
    if not isinstance(tree, exp.Literal) or not tree.is_string or "\\" in tree.name:
        raise Unsupported(f"`{to_sql(tree)[:60]}` is no plain text")
    return str(tree.name)


def unknown(tree: exp.Expr) -> Unsupported:
    return Unsupported(f"`{to_sql(tree)[:60]}` is not known to the Arrow lane")


def common(*nodes: Node) -> str:
    """The type in which Spark compares or unites these. Raises Unsupported."""
    kinds = {node.kind for node in nodes} - {"null"}
    if len(kinds) <= 1 and "decimal" not in kinds:
        return next(iter(kinds), "null")
    if "decimal" in kinds and kinds & {"float", "double"} and kinds <= {"decimal", *_WIDER}:
        return "double"
    if kinds <= set(_WIDER):
        return max(kinds, key=_WIDER.index)
    raise Unsupported(f"{' and '.join(sorted(kinds))} are not brought together in the Arrow lane")


def to_kind(node: Node, kind: str) -> Node:
    """The same values in a type that `common` found."""
    if node.kind == kind:
        return node
    inner, target = node.compute, KINDS[kind]
    if node.kind != "null" and not (node.kind in {*_WIDER, "decimal"} and kind in _WIDER):
        raise Unsupported(f"{node.kind} is not cast to {kind} in the Arrow lane")
    # From whole numbers to floating ones: the nearest, as in Java.
    return Node(
        kind, lambda batch: pc.cast(inner(batch), target, safe=False), nan=node.nan, constant=node.constant
    )


def cast(tree: exp.Expr, node: Node) -> Node:
    """`try_cast`, where what cannot be cast is NULL. A plain CAST is only taken where everything fits."""
    wanted = to_sql(tree.args["to"]).lower()
    if node.kind == "string" and node.constant and wanted == "timestamp":
        return _moment(tree)
    kind = _CASTS.get(wanted)
    if kind is None or node.kind not in {"integer", "long", "double", "float", "decimal"}:
        raise unknown(tree)
    if node.kind == kind:
        return node
    if node.kind == "long" and kind == "integer" and tree.args.get("safe"):
        return Node(kind, lambda batch: _narrowed(batch.filled(node.compute(batch))))
    if kind == "double" or (node.kind == "integer" and kind == "long"):
        return to_kind(node, kind)
    raise unknown(tree)


def _moment(tree: exp.Expr) -> Node:
    """A time that is written out, in UTC as the session is."""
    found = moments(pa.array([str(tree.this.name)]))
    if not found.value[0].is_valid or (found.doubtful is not None and found.doubtful[0]):
        raise Unsupported(f"`{to_sql(tree)[:60]}` is not a plain time")
    return constant_node("timestamp", found.value[0])


def _narrowed(values: pa.Array) -> pa.Array:
    numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    fits = (numbers >= -(2**31)) & (numbers < 2**31)
    known = values.is_valid().to_numpy(zero_copy_only=False)
    return pa.array(np.where(fits, numbers, 0).astype(np.int32), mask=~(known & fits))
