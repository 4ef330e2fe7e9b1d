"""JSON values as a schema's: the way back of `headgate.formats.convert`; bytes are base64."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any
from uuid import UUID

from headgate import exact_json
from headgate.formats.shapes import (
    Boolean,
    Choice,
    Day,
    Fraction,
    ListOf,
    MapOf,
    Moment,
    OneOf,
    Raw,
    Real,
    Record,
    Shape,
    Text,
    Whole,
    describe,
)

__all__ = ["Time", "Times", "UnencodableError", "named_value", "record_values", "short"]

# A column's value as microseconds since 1970 (of the wall's clock where the schema's time has no zone).
Time = Callable[[Any], int | None]
Times = Mapping[str, Time]

_DAY = 86_400_000_000
# No digit is rounded away, however many there are: a number that has more of them is refused.
_EXACT = Context(prec=400, traps=[Inexact, InvalidOperation, Overflow])
_EXACT_IN_FLOATS = 2**24  # whole numbers up to here are the same in 32 bits of floating point


class UnencodableError(ValueError):
    """The record does not fit the schema."""


def record_values(shape: Record, record: Any, times: Times) -> dict[str, Any]:
    if not isinstance(record, Mapping):
        raise UnencodableError(f"{short(record)} is not an object for {describe(shape)}")
    values: dict[str, Any] = {}
    for field in shape.fields:
        if field.name not in record and field.has_default:
            continue
        given = record.get(field.name)
        values[field.name] = named_value(field.name, field.shape, given, times.get(field.name))
    return values


def named_value(name: str, shape: Shape, value: Any, time: Time | None) -> Any:
    if value is None:
        return None
    try:
        return _value(shape, value, time)
    except UnencodableError as error:
        raise UnencodableError(f"`{name}`: {error}") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise UnencodableError(f"`{name}`: {short(value)} is not {describe(shape)}") from error


def _value(shape: Shape, value: Any, time: Time | None = None) -> Any:
    """A JSON value as the libraries take it. Raises ValueError and TypeError for what does not fit."""
    if isinstance(shape, Moment | Day) or (time is not None and isinstance(shape, Whole)):
        return _time(shape, value, time)
    make = _VALUES.get(type(shape))
    if make is None:
        raise UnencodableError(f"{describe(shape)} cannot be made from JSON")
    return make(shape, value)


def _time(shape: Shape, value: Any, time: Time | None) -> int:
    if isinstance(shape, Whole):
        return _epoch(shape, value)
    micros = (time or _iso)(value)
    if micros is None:
        raise ValueError("no time")
    if isinstance(shape, Moment):
        return micros * shape.per_second // 1_000_000
    return micros // _DAY


def _epoch(shape: Whole, value: Any) -> int:
    """A number since 1970, as the contract's format says; the field has no place for a fraction."""
    whole = int(value) if isinstance(value, float | Decimal) else value
    return _whole(shape, whole if whole == value else _no(value))


def _iso(value: Any) -> int:
    moment = datetime.fromisoformat(value)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _boolean(_: Boolean, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return value == "true" if value in ("true", "false") else bool(_no(value))


def _no(value: Any) -> Any:
    """For the other side of a conditional."""
    raise ValueError(short(value))


def _whole(shape: Whole, value: Any) -> int:
    number = int(value) if isinstance(value, str) else value
    if not isinstance(number, int) or isinstance(number, bool) or not shape.low <= number <= shape.high:
        raise ValueError("out of range")
    return number


def _real(shape: Real, value: Any) -> float:
    """The nearest one; a number that only an infinity is near to does not fit."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return float(_no(value))
    number = float(value)
    if math.isinf(number) and Decimal(value).is_finite():
        return float(_no(value))
    if shape.bits == 32:
        struct.pack("<f", number)  # raises OverflowError
    return number


def _text(_: Text, value: Any) -> str:
    """Numbers in strings: as JSON writes them."""
    return value if isinstance(value, str) else exact_json.dumps(value)


def _raw(shape: Raw, value: Any) -> bytes:
    data = UUID(value).bytes if shape.uuid else base64.b64decode(value, validate=True)
    return data if shape.size in {None, len(data)} else bytes(_no(value))


def _choice(shape: Choice, value: Any) -> Any:
    if shape.numbered and isinstance(value, int) and not isinstance(value, bool):
        return value
    numbers = {name: number for number, name in shape.names.items()}
    if not isinstance(value, str) or value not in numbers:
        return _no(value)
    return numbers[value] if shape.numbered else value


def _fraction(shape: Fraction, value: Any) -> bytes:
    number = Decimal(str(value)).scaleb(shape.scale, _EXACT)
    if number and number.adjusted() >= shape.precision:
        raise ValueError("more digits than the schema has")
    whole = int(number)
    if whole != number:
        raise ValueError("more decimals than the schema has")
    size = shape.size or whole.bit_length() // 8 + 1
    return whole.to_bytes(size, "big", signed=True)


def _list(shape: ListOf, values: Any) -> list[Any]:
    return [None if each is None else _value(shape.item, each) for each in values]


def _map(shape: MapOf, values: Any) -> dict[str, Any]:
    return {key: None if each is None else _value(shape.value, each) for key, each in values.items()}


def _one_of(shape: OneOf, value: Any) -> Any:
    """The branch of the value's own kind: text is text where there is such a branch, and nothing else is.
    A number is floating point only where no other branch takes it as it is."""
    for each in sorted(shape.shapes, key=lambda one: (not isinstance(one, Text), isinstance(one, Real))):
        if isinstance(each, Text) and not isinstance(value, str):
            continue
        try:
            return _branch(shape, each, _value(each, value))
        except (ValueError, TypeError, AttributeError, ArithmeticError):
            continue
    return _no(value)


def _branch(union: OneOf, shape: Shape, value: Any) -> Any:
    """fastavro takes the first branch of numbers, unless it is told which one."""
    real = any(isinstance(each, Real) for each in union.shapes)
    if real and isinstance(shape, Whole) and abs(value) > _EXACT_IN_FLOATS:
        return ("int" if shape.high < 2**31 else "long", value)
    return value


_VALUES: Mapping[type, Callable[[Any, Any], Any]] = {
    Boolean: _boolean,
    Whole: _whole,
    Real: _real,
    Text: _text,
    Raw: _raw,
    Choice: _choice,
    Fraction: _fraction,
    ListOf: _list,
    MapOf: _map,
    OneOf: _one_of,
    Record: lambda shape, value: record_values(shape, value, {}),
}


def short(value: Any) -> str:
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
