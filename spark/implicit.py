"""Finds where Spark itself turns text into a number or a time, which the contract's author did not write.

With ANSI mode off `avg(s)` and `s > 5` cast a string column without a word, and what cannot be read is NULL
in silence. The casts that an author writes are in their `try_` form by the time Spark sees them and have a
failure condition; those that are left in Spark's legacy mode are Spark's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["casts_of_projection", "casts_of_query"]

# Functions that stand for a cast which the author did write: `to_date(s)`. Their failure has a condition.
_WRITTEN = {"ParseToDate", "ParseToTimestamp", "ParseToTimestampNTZ", "ParseToTimestampLTZ", "TryToDate"}


def casts_of_projection(frame: DataFrame) -> list[str]:
    """What is wrong in the outermost projection of a frame."""
    plan = frame._jdf.queryExecution().analyzed()
    return list(dict.fromkeys(_of_expressions(plan)))


def casts_of_query(frame: DataFrame) -> list[str]:
    """What is wrong in a query down to the views that it reads, which are headgate's own."""
    found: list[str] = []
    stack = [frame._jdf.queryExecution().analyzed()]
    while stack:
        plan = stack.pop()
        if plan.nodeName() == "View":
            continue
        found.extend(_of_expressions(plan))
        stack.extend(_all(plan.children()))
    return list(dict.fromkeys(found))


def _of_expressions(plan: Any) -> Iterator[str]:
    stack = _all(plan.expressions())
    shared: dict[str, str] = {}  # id to text of what an expression names twice, as BETWEEN does
    while stack:
        node = stack.pop()
        kind = node.getClass().getSimpleName()
        if kind == "With":
            shared |= {each.id().toString(): each.child().sql() for each in _all(node.defs())}
        if kind == "Cast" and node.evalMode().toString() == "LEGACY" and _from_text(node):
            yield from _problem(node, shared)
        inner = _all(node.children())
        if kind in _WRITTEN:  # the cast that it stands for is not looked at, what goes into it is
            inner = [
                part
                for child in inner
                for part in (_all(child.children()) if child.nodeName().lower() == "cast" else [child])
            ]
        stack.extend(inner)


def _problem(cast: Any, shared: Mapping[str, str]) -> Iterator[str]:
    wanted, text = cast.dataType().simpleString(), _text(cast.child(), shared)
    if not cast.foldable():
        yield (
            f"Spark reads the text `{text}` as {wanted} here, and what it cannot read would be NULL in "
            f"silence: write CAST({text} AS {wanted.upper()}), or try_cast where NULL is what you want"
        )
    elif cast.eval(None) is None and cast.child().eval(None) is not None:
        yield f"Spark reads {text} as {wanted} here, and cannot: it is the same for every record, and NULL"


def _text(expression: Any, shared: Mapping[str, str]) -> str:
    """An expression as SQL, with what Spark has put in place of a part that stands there once."""
    text, stack = str(expression.sql()), [expression]
    while stack:
        node = stack.pop()
        if node.getClass().getSimpleName() == "CommonExpressionRef":
            text = text.replace(node.sql(), shared.get(node.id().toString(), node.sql()), 1)
        stack.extend(reversed(_all(node.children())))
    return text


def _from_text(cast: Any) -> bool:
    before, after = cast.child().dataType().simpleString(), cast.dataType().simpleString()
    return bool(before.count("string") > after.count("string"))


def _all(sequence: Any) -> list[Any]:
    return [sequence.apply(i) for i in range(sequence.size())]
