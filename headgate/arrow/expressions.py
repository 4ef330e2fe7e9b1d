"""Compiles Spark SQL to operations over Arrow columns, where the meaning is the same, or says what is not.

What is compiled is the text that the JVM lane runs: casts and arithmetic are in their `try_` forms already
(`headgate.contract.compile`). A node that is not known here is `Unsupported`, and its contract runs in the
JVM lane as a whole. tests/e2e/test_arrow_meaning.py holds what is compiled against Spark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp

from headgate.arrow.functions import FUNCTION_PARTS, FUNCTIONS, NAMED
from headgate.arrow.kernels import Batch
from headgate.arrow.kinds import Unsupported
from headgate.arrow.nodes import Compiler, Inner, Node, constant_node, literal, of_kind, plain_text, unknown
from headgate.arrow.operators import OPERATOR_PARTS, OPERATORS
from headgate.contract.precedence import comparisons_in_a_row
from headgate.contract.sql import SPARK, to_sql

__all__ = ["Condition", "compile_condition", "compile_expression"]

Kinds = Mapping[str, str]  # lower-case name of a column to its type
Condition = Callable[[Batch], pa.Array]


def compile_condition(text: str, kinds: Kinds) -> Condition:
    """A condition that is met where the SQL is true or NULL, as screening reads it."""
    met = of_kind(compile_expression(sqlglot.parse_one(text, read=SPARK), kinds), "boolean").compute
    return lambda batch: batch.filled(pc.coalesce(met(batch), pa.scalar(True)))


def compile_expression(tree: exp.Expr, kinds: Kinds) -> Node:
    """Raises Unsupported."""
    if isinstance(tree, exp.Column):
        return _column(tree, kinds)
    compiler = NAMED.get(tree.name.lower()) if isinstance(tree, exp.Anonymous) else _COMPILERS.get(type(tree))
    # What a node says beyond what is known, `negate` of LIKE for one, must not be passed over.
    said = {name for name, value in tree.args.items() if value and not name.startswith("_")}
    if compiler is None or not said <= _PARTS.get(type(tree), _OPERANDS):
        raise unknown(tree)
    for operand in comparisons_in_a_row(tree):
        raise Unsupported(
            f"`{to_sql(tree)[:60]}` has comparisons in a row, which Spark may read otherwise: put "
            f"parentheses around `{to_sql(operand)[:60]}`"
        )
    return compiler(tree, lambda part: compile_expression(part, kinds))


def _column(tree: exp.Column, kinds: Kinds) -> Node:
    name = tree.name.lower()
    if len(tree.parts) != 1 or name not in kinds:
        raise Unsupported(f"`{to_sql(tree)}` is no column of the source")
    return Node(kinds[name], lambda batch: batch.columns[name])


def _literal(tree: exp.Expr, _: Inner) -> Node:
    return literal(plain_text(tree), is_text=True) if tree.is_string else literal(tree.name)


_OPERANDS = frozenset({"this", "expression"})
_PARTS: Mapping[type[exp.Expr], frozenset[str]] = {
    exp.Boolean: frozenset({"this"}),
    exp.Literal: frozenset({"this", "is_string"}),
    **OPERATOR_PARTS,
    **FUNCTION_PARTS,
}
_COMPILERS: Mapping[type[exp.Expr], Compiler] = {
    exp.Boolean: lambda tree, _: constant_node("boolean", pa.scalar(bool(tree.this))),
    exp.Literal: _literal,
    exp.Null: lambda _tree, _: literal(None),
    exp.Paren: lambda tree, part: part(tree.this),
    **OPERATORS,
    **FUNCTIONS,
}
