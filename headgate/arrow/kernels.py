"""Operations over columns with Spark's meaning (ANSI mode off): total, NULL in and NULL out.

Where Arrow's own differ (remainders, overflow, NaN) they are put together from others here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "Batch",
    "choose",
    "compare",
    "divide",
    "in_list",
    "null_safe_equal",
    "remainder",
    "try_whole",
]

Value = Any  # an array or a scalar of Arrow
_INT32 = pa.int32()


@dataclass(frozen=True, slots=True)
class Batch:
    """Columns of one length, by their names."""

    columns: Mapping[str, pa.Array]
    rows: int

    def filled(self, value: Value) -> pa.Array:
        """A column of a value that may be a scalar."""
        if not isinstance(value, pa.Scalar):
            return value.combine_chunks() if isinstance(value, pa.ChunkedArray) else value
        return pa.repeat(value, self.rows)


_PLAIN: Mapping[str, Callable[[Value, Value], Value]] = {
    "=": pc.equal,
    "<>": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_MIRRORED = {">": "<", ">=": "<="}


def compare(operator: str, left: Value, right: Value, *, nan: bool) -> Value:
    """`nan`: whether an operand may be NaN, which Spark takes for a number above all others."""
    if not nan:
        return _PLAIN[operator](left, right)
    if operator in _MIRRORED:
        operator, left, right = _MIRRORED[operator], right, left
    left_nan, right_nan = pc.is_nan(left), pc.is_nan(right)
    equal = pc.or_kleene(pc.equal(left, right), pc.and_kleene(left_nan, right_nan))
    if operator == "=":
        return equal
    if operator == "<>":
        return pc.invert(equal)
    less = pc.or_kleene(pc.less(left, right), pc.and_kleene(pc.invert(left_nan), right_nan))
    return less if operator == "<" else pc.or_kleene(less, equal)


def null_safe_equal(left: Value, right: Value, *, nan: bool) -> Value:
    equal = pc.coalesce(compare("=", left, right, nan=nan), pa.scalar(False))
    return pc.or_(equal, pc.and_(pc.is_null(left), pc.is_null(right)))


def in_list(value: Value, known: pa.Array) -> Value:
    """`known` may hold NULL: what is not found is NULL then."""
    found = pc.is_in(value, value_set=known.drop_null())
    if known.null_count:
        found = pc.if_else(found, pa.scalar(True), pa.scalar(None, pa.bool_()))
    return pc.if_else(pc.is_null(value), pa.scalar(None, pa.bool_()), found)


def choose(branches: Sequence[tuple[Value, Value]], otherwise: Value) -> Value:
    """The value of the first condition that is true; NULL is not."""
    for condition, value in reversed(branches):
        otherwise = pc.if_else(pc.coalesce(condition, pa.scalar(False)), value, otherwise)
    return otherwise


def try_whole(operator: str, left: pa.Array, right: pa.Array) -> pa.Array:
    """`+`, `-` or `*` of int32, `+` or `-` of int64; NULL where the result does not fit."""
    known = _both(left, right)
    a, b = _numbers(left).astype(np.int64), _numbers(right).astype(np.int64)
    with np.errstate(over="ignore"):
        result = {"+": np.add, "-": np.subtract, "*": np.multiply}[operator](a, b)
    if left.type == _INT32:
        fits = (result >= -(2**31)) & (result < 2**31)
        return pa.array(np.where(fits, result, 0).astype(np.int32), mask=~(known & fits))
    other = b if operator == "+" else ~b
    # Two numbers of one sign and a result of the other: it went round.
    fits = ((a ^ result) & (other ^ result)) >= 0
    return pa.array(result, mask=~(known & fits))


def divide(left: pa.Array, right: pa.Array) -> pa.Array:
    """Of doubles; NULL where the divisor is zero."""
    a, b = _numbers(left), _numbers(right)
    known = _both(left, right) & (b != 0)
    with np.errstate(all="ignore"):
        return pa.array(np.where(known, a, 0.0) / np.where(known, b, 1.0), mask=~known)


def remainder(left: pa.Array, right: pa.Array) -> pa.Array:
    """Of whole numbers, with the dividend's sign; NULL where the divisor is zero."""
    a, b = _numbers(left), _numbers(right)
    known = _both(left, right) & (b != 0)
    divisor = np.where(known & (b != -1), b, 1)  # by minus one nothing is left, and the quotient may not fit
    return pa.array(np.fmod(a, divisor).astype(a.dtype), mask=~known)


def _both(left: pa.Array, right: pa.Array) -> Any:
    return pc.and_(left.is_valid(), right.is_valid()).to_numpy(zero_copy_only=False)


def _numbers(values: pa.Array) -> Any:
    return values.fill_null(0).to_numpy(zero_copy_only=False)
