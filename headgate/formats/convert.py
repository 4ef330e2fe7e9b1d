"""From a shape of a schema to a type of a contract: which pairs go together, and what a value becomes.

The table in docs/guides/formats.md is this module in words.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from functools import partial
from typing import Any
from uuid import UUID

from headgate.formats.shapes import (
    Boolean,
    Choice,
    Day,
    Fraction,
    ListOf,
    MapOf,
    Moment,
    OneOf,
    Other,
    Raw,
    Real,
    Record,
    Shape,
    Text,
    Whole,
    describe,
)
from headgate.formats.types import ColumnType

__all__ = [
    "DAYS",
    "MICROS",
    "RANGES",
    "Convert",
    "NotConvertibleError",
    "UnreadableError",
    "as_it_is",
    "converter",
    "fraction_value",
]

Convert = Callable[[Any], Any]

RANGES = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
# The years 1 to 9999, which every reader of a table knows.
MICROS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
DAYS = (-719_162, 2_932_896)
_DIGITS = Context(prec=400, rounding=ROUND_HALF_UP)  # a 64-bit float has at most 325 digits on one side
_INFINITE = float("inf")
_MOST_BYTES = 64  # 16 hold the 38 digits of the largest decimal; what a producer pads is allowed for


class NotConvertibleError(ValueError):
    """No value of the shape can become one of the type: a fault of the contract, not of a record."""


class UnreadableError(ValueError):
    """This value cannot become one of the type; others of its shape can."""


def converter(shape: Shape, type_: ColumnType) -> Convert:
    """What makes a value of the type from one that is not null. Raises NotConvertibleError."""
    if isinstance(shape, OneOf):
        return _one_of(shape, type_)
    made = _NESTED[type_.name](shape, type_) if type_.parts else _SIMPLE[type_.name](shape, type_)
    if made is None:
        raise NotConvertibleError(
            describe(shape) if isinstance(shape, Other) else f"{describe(shape)} does not become {type_}"
        )
    return made


def fraction_value(digits: bytes, scale: int) -> Decimal:
    if not 0 < len(digits) <= _MOST_BYTES:
        raise UnreadableError("no number, or one of more digits than any column has")
    return Decimal(int.from_bytes(digits, "big", signed=True)).scaleb(-scale, _DIGITS)


# -- simple types: each takes a shape and returns its conversion, or None where there is none


def as_it_is(value: Any) -> Any:
    return value


def _string(shape: Shape, _: ColumnType) -> Convert | None:
    match shape:
        case Text():
            return as_it_is
        case Choice():
            return partial(_named, shape.names) if shape.numbered else as_it_is
        case Whole():
            return str
        case Boolean():
            return lambda value: "true" if value else "false"
        case Raw(uuid=True):
            return lambda value: str(UUID(bytes=value))
    return None


def _named(names: Any, number: int) -> str:
    name = names.get(number)
    if name is None:
        raise UnreadableError(f"the enum has no number {number}")
    return str(name)


def _boolean(shape: Shape, _: ColumnType) -> Convert | None:
    return as_it_is if isinstance(shape, Boolean) else None


def _whole(shape: Shape, type_: ColumnType) -> Convert | None:
    low, high = RANGES[type_.name]
    if isinstance(shape, Choice) and shape.numbered:
        return as_it_is
    if not isinstance(shape, Whole):
        return None
    if low <= shape.low and shape.high <= high:
        return as_it_is
    return partial(_within, low, high)


def _within(low: int, high: int, value: int) -> int:
    if low <= value <= high:
        return value
    raise UnreadableError("out of the type's range")


def _double(shape: Shape, _: ColumnType) -> Convert | None:
    match shape:
        case Real():
            return _finite
        case Whole():
            return float
        case Fraction():
            return lambda digits: _finite(float(fraction_value(digits, shape.scale)))
    return None


def _finite(value: float) -> float:
    if -_INFINITE < value < _INFINITE:  # false for NaN as well
        return value
    raise UnreadableError("not a finite number")


def _float(shape: Shape, type_: ColumnType) -> Convert | None:
    if isinstance(shape, Real) and shape.bits == 32:
        return _finite
    double = _double(shape, type_)
    return None if double is None else lambda value: _narrow(double(value))


def _narrow(value: float) -> float:
    try:
        return _finite(float(struct.unpack("<f", struct.pack("<f", value))[0]))
    except OverflowError as error:
        raise UnreadableError("out of the type's range") from error


def _decimal(shape: Shape, type_: ColumnType) -> Convert | None:
    fit = partial(_fit, type_.precision, Decimal(1).scaleb(-type_.scale))
    match shape:
        case Whole():
            return lambda value: fit(Decimal(value))
        case Fraction():
            return lambda digits: fit(fraction_value(digits, shape.scale))
        case Real():
            return lambda value: fit(Decimal(repr(_finite(value))))
    return None


def _fit(precision: int, unit: Decimal, value: Decimal) -> Decimal:
    try:
        rounded = value.quantize(unit, context=_DIGITS)
    except InvalidOperation as error:
        raise UnreadableError("more digits than fit") from error
    if rounded and rounded.adjusted() - int(unit.as_tuple().exponent) + 1 > precision:
        raise UnreadableError("more digits than fit")
    return rounded


def _date(shape: Shape, _: ColumnType) -> Convert | None:
    return partial(_within, *DAYS) if isinstance(shape, Day) else None


def _timestamp(shape: Shape, _: ColumnType) -> Convert | None:
    if not isinstance(shape, Moment) or not shape.zoned:
        return None
    return partial(_micros, shape.per_second)


def _micros(per_second: int, value: int) -> int:
    """Finer units are cut off, towards the past."""
    return _within(*MICROS, value * 1_000_000 // per_second)


def _binary(shape: Shape, _: ColumnType) -> Convert | None:
    return as_it_is if isinstance(shape, Raw) else None


_SIMPLE: dict[str, Callable[[Shape, ColumnType], Convert | None]] = {
    "string": _string,
    "boolean": _boolean,
    "int": _whole,
    "long": _whole,
    "float": _float,
    "double": _double,
    "decimal": _decimal,
    "date": _date,
    "timestamp": _timestamp,
    "binary": _binary,
}

# -- nested types


def _array(shape: Shape, type_: ColumnType) -> Convert | None:
    if not isinstance(shape, ListOf):
        return None
    item = _or_null(converter(shape.item, type_.parts[0][1]))
    return lambda values: [item(value) for value in values]


def _map(shape: Shape, type_: ColumnType) -> Convert | None:
    if not isinstance(shape, MapOf):
        return None
    key = converter(shape.key, type_.parts[0][1])
    value = _or_null(converter(shape.value, type_.parts[1][1]))
    return lambda values: [(key(name), value(each)) for name, each in values.items()]


def _struct(shape: Shape, type_: ColumnType) -> Convert | None:
    if not isinstance(shape, Record):
        return None
    fields = []
    for name, part in type_.parts:
        found = shape.field(name)
        if found is None:
            raise NotConvertibleError(f"the record `{shape.name}` has no field `{name}`")
        fields.append((name, found.get, _or_null(converter(found.shape, part))))
    return lambda record: {name: convert(get(record)) for name, get, convert in fields}


_NESTED: dict[str, Callable[[Shape, ColumnType], Convert | None]] = {
    "array": _array,
    "map": _map,
    "struct": _struct,
}


def _or_null(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


# -- unions


def _one_of(shape: OneOf, type_: ColumnType) -> Convert:
    by_type: dict[type, Convert] = {}
    for each in shape.shapes:
        kind = _python_type(each)
        if kind is None or kind in by_type:
            raise NotConvertibleError(f"{describe(shape)} cannot be told apart")
        by_type[kind] = converter(each, type_)
    return lambda value: by_type[type(value)](value)


def _python_type(shape: Shape) -> type | None:
    kinds = {Boolean: bool, Whole: int, Real: float, Text: str, Raw: bytes, Record: dict, ListOf: list}
    return kinds.get(type(shape))
