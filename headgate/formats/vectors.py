"""From what was read in lock-step to a column's array: `headgate.formats.convert` for a whole block.

A value that cannot become its column's makes the record odd: the exact road says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from headgate.formats.convert import DAYS, MICROS, RANGES, Convert
from headgate.formats.lockstep import Lanes, Mask, Numbers, Vector, binaries, texts
from headgate.formats.shapes import (
    Boolean,
    Choice,
    Day,
    Fraction,
    Moment,
    Raw,
    Real,
    Shape,
    Text,
    Whole,
)

__all__ = ["Make", "vector_converter"]

# An array of one value for each record; what cannot become one makes its record not `ok`.
Make = Callable[[Lanes, Vector], pa.Array]

_FINER = 1_000_000


def vector_converter(shape: Shape, kind: pa.DataType, convert: Convert) -> Make | None:
    """For values of a shape that go with a type; `convert` is what makes one of them. None where the values
    of the shape are not read in lock-step."""
    make = _BY_SHAPE.get(type(shape))
    made = None if make is None else make(shape, kind)
    if made is None and isinstance(shape, (Whole, Real, Raw, Fraction)):
        return partial(_one_by_one, isinstance(shape, (Raw, Fraction)), kind, convert)
    return made


def _from_choice(shape: Choice, kind: pa.DataType) -> Make | None:
    if not pa.types.is_string(kind):
        return partial(_whole, *RANGES["int"], kind)
    return _named(shape) if shape.names else None


def _from_whole(shape: Whole, kind: pa.DataType) -> Make | None:
    if pa.types.is_string(kind):
        return lambda _, vector: _array(vector, vector.numbers).cast(kind)
    if pa.types.is_floating(kind):
        return partial(_real, kind)
    if pa.types.is_integer(kind):
        low, high = RANGES["int" if kind == pa.int32() else "long"]
        return partial(_whole, max(low, shape.low), min(high, shape.high), kind)
    return None


def _array(vector: Vector, numbers: Numbers, kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(numbers, kind, mask=None if vector.present is None else ~vector.present)


def _boolean(kind: pa.DataType, _: Lanes, vector: Vector) -> pa.Array:
    return _array(vector, vector.numbers.astype(np.bool_)).cast(kind)


def _whole(low: int, high: int, kind: pa.DataType, lanes: Lanes, vector: Vector) -> pa.Array:
    """Days as well, which are numbers of 32 bits."""
    numbers = _within(low, high, lanes, vector.numbers)
    as_it_is = np.int64 if kind == pa.int64() else np.int32
    return _array(vector, numbers.astype(as_it_is, copy=False)).cast(kind)


def _within(low: int, high: int, lanes: Lanes, numbers: Numbers) -> Numbers:
    bounds = np.iinfo(numbers.dtype)
    odd: Mask | bool = False
    if low > bounds.min:
        odd = numbers < low
    if high < bounds.max:
        odd = odd | (numbers > high)
    if not np.any(odd):
        return numbers
    lanes.fail(np.asarray(odd))
    found: Numbers = np.where(odd, 0, numbers)
    return found


def _real(kind: pa.DataType, lanes: Lanes, vector: Vector) -> pa.Array:
    """By way of a double, as the exact road goes: a whole number may be rounded twice."""
    numbers = vector.numbers
    with np.errstate(all="ignore"):
        if numbers.dtype.kind != "f":
            numbers = numbers.astype(np.float64)
        numbers = numbers.astype(np.float32 if kind == pa.float32() else np.float64)
    lanes.fail(~np.isfinite(numbers))
    return _array(vector, numbers)


def _moment(per_second: int, kind: pa.DataType, lanes: Lanes, vector: Vector) -> pa.Array:
    """Finer units are cut off, towards the past."""
    numbers: Any = vector.numbers
    low, high = MICROS
    per_second = vector.per_second or per_second
    if per_second > _FINER:
        numbers = numbers // (per_second // _FINER)
        return _array(vector, _within(low, high, lanes, numbers)).cast(kind)
    each = _FINER // per_second
    numbers = _within(-(-low // each), high // each, lanes, numbers)
    return _array(vector, numbers * each).cast(kind)


def _named(shape: Choice) -> Make:
    numbers = np.array(sorted(shape.names), np.int64)
    names = pa.array([shape.names[int(each)] for each in numbers], pa.string())

    def name(lanes: Lanes, vector: Vector) -> pa.Array:
        at = np.minimum(np.searchsorted(numbers, vector.numbers), len(numbers) - 1)
        nameless = numbers[at] != vector.numbers
        lanes.fail(nameless if vector.present is None else nameless & vector.present)
        return names.take(_array(vector, at))

    return name


def _one_by_one(raw: bool, kind: pa.DataType, convert: Convert, lanes: Lanes, vector: Vector) -> pa.Array:
    """Values that only Python converts, decimals above all: the records are read fast all the same."""
    found = binaries(lanes, vector) if raw else _array(vector, vector.numbers)
    made: list[Any] = []
    odd = np.zeros(len(found), np.bool_)
    for place, value in enumerate(found.to_pylist()):
        try:
            made.append(None if value is None else convert(value))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 -- as one record at a time: whatever it is, it costs that record
            odd[place] = True
            made.append(None)
    lanes.fail(odd)
    return pa.array(made, kind)


_BY_SHAPE: Mapping[type, Callable[[Any, pa.DataType], Make | None]] = {
    Text: lambda _, kind: texts if pa.types.is_string(kind) else None,
    Choice: _from_choice,
    Boolean: lambda _, kind: partial(_boolean, kind),
    Whole: _from_whole,
    Real: lambda _, kind: partial(_real, kind) if pa.types.is_floating(kind) else None,
    Day: lambda _, kind: partial(_whole, *DAYS, kind),
    Moment: lambda shape, kind: partial(_moment, shape.per_second, kind),
    Raw: lambda _, kind: binaries if pa.types.is_binary(kind) else None,
}
