"""What of a Protobuf message is read in lock-step: single fields with their wire types, messages in it too.

A record is left where it has a repeated field, a group, a field of another wire type than its own, a number
that its enum has not, text that is no UTF-8, or one message twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from headgate.formats.lockstep import Lanes, Numbers, Vector, texts, unzigzag
from headgate.formats.protobuf_shapes import TIMESTAMP, WRAPPERS
from headgate.formats.protobuf_walk import (
    FIXED32,
    FIXED64,
    SIZED,
    VARINT,
    Member,
    Members,
    sized,
    walk,
)
from headgate.formats.schema import ReadVectors

__all__ = ["protobuf_vectors"]

_Read = Callable[[Lanes], Vector | None]
_MICROS = 1_000_000
_MOST_SECONDS = 10**12  # beyond all years that a column has, and in microseconds still a number of 64 bits
# What each costs, beside the others: a step of a block, a record that is read one at a time, a value of it.
_STEP, _OBJECT, _VALUE = 500, 15, 2
_MOMENT = {"seconds": FieldDescriptor.TYPE_INT64, "nanos": FieldDescriptor.TYPE_INT32}


class _Way(NamedTuple):
    """The wire type, what reads a value of it, the type of the numbers that are read, and the steps of it."""

    wire: int
    read: _Read | None = None
    dtype: np.dtype[Any] | None = None
    steps: int = 1


def protobuf_vectors(message: Descriptor, wanted: Collection[str]) -> ReadVectors | None:
    """What reads whole messages and hands over the wanted fields; None where it has not all of them."""
    members = _members(message, (), wanted)
    if members is None or not set(wanted) <= {each.name for each in members.by_tag.values()}:
        return None
    return ReadVectors(partial(walk, members), _least(members, len(wanted)))


def _least(members: Members, wanted: int) -> int:
    """Compiled code reads one message at a time and passes over a field as fast as it is passed over here, so
    that what a record saves is to become an object and values of Python; each field costs a block a step."""
    return _STEP * members.steps // (_OBJECT + _VALUE * wanted)


def _members(
    message: Descriptor, above: tuple[str, ...], wanted: Collection[str] = (), *, replaceable: bool = False
) -> Members | None:
    """None for a message that may have fields which its own schema does not name, or that contains itself.

    `replaceable`: another field may take the place of the whole message."""
    if message.is_extendable or message.full_name in above:
        return None
    inside = (*above, message.full_name)
    found = (_member(field, inside, field.name in wanted, replaceable) for field in message.fields)
    members = [each for each in found if each is not None]
    return Members(members, [field.number for field in message.fields])


def _member(field: FieldDescriptor, above: tuple[str, ...], wanted: bool, replaceable: bool) -> Member | None:
    if field.is_repeated or field.type == field.TYPE_GROUP:
        return None
    oneof = field.containing_oneof
    others = () if oneof is None else [each for each in oneof.fields if each.number != field.number]
    replaceable = replaceable or bool(others)
    way = _reader(field, above, wanted, replaceable)
    if way.read is None:
        return None
    return Member(
        name=field.name,
        tag=field.number << 3 | way.wire,
        read=way.read,
        wanted=wanted,
        dtype=way.dtype,
        steps=way.steps,
        presence=field.has_presence,
        required=field.is_required,
        once=field.message_type is not None or _is_looked_at_later(field, wanted, replaceable),
        rivals=tuple(each.name for each in others),
    )


def _is_looked_at_later(field: FieldDescriptor, wanted: bool, replaceable: bool) -> bool:
    """Text that a column has is, where the column is made, if nothing else can take its place."""
    return field.type == field.TYPE_STRING and wanted and not replaceable


def _reader(field: FieldDescriptor, above: tuple[str, ...], wanted: bool, replaceable: bool) -> _Way:
    if field.message_type is not None:
        return _message_reader(field.message_type, above, wanted, replaceable)
    if field.enum_type is not None and field.enum_type.is_closed:
        numbers = np.array(sorted({each.number for each in field.enum_type.values}), np.int64)
        return _Way(VARINT, partial(_enum, numbers), _INT)
    if field.type == field.TYPE_STRING:
        later = _is_looked_at_later(field, wanted, replaceable)
        return _Way(SIZED, sized if later else partial(_text, wanted))
    if field.type == field.TYPE_BYTES:
        return _Way(SIZED, sized)
    return _SCALARS[field.type]


def _message_reader(message: Descriptor, above: tuple[str, ...], wanted: bool, replaceable: bool) -> _Way:
    """Of Google's messages that stand for one value that is read, if they are as Google has them: a schema
    brings its own files."""
    is_moment = wanted and message.full_name == TIMESTAMP
    is_wrapper = wanted and message.full_name in WRAPPERS
    inside = _MOMENT if is_moment else ("value",) if is_wrapper else ()
    members = _members(message, above, inside, replaceable=replaceable)
    if members is None:
        return _Way(SIZED)
    steps = members.steps + 1
    if is_moment:
        return _Way(SIZED, partial(_moment, members) if _kinds(message) == _MOMENT else None, _INT, steps)
    if not is_wrapper:
        return _Way(SIZED, partial(_checked, members), _INT, steps)
    if "value" not in _kinds(message):
        return _Way(SIZED)
    (value,) = (each for each in members.by_tag.values() if each.name == "value")
    return _Way(SIZED, partial(_wrapped, members), value.dtype, steps)


def _kinds(message: Descriptor) -> dict[str, int]:
    """The fields that have one value, which is never absent, and its type."""
    return {
        field.name: field.type
        for field in message.fields
        if not (field.is_repeated or field.has_presence or field.message_type is not None)
    }


def _inside(members: Members, lanes: Lanes) -> Mapping[str, Vector]:
    part = lanes.inside(sized(lanes))
    found = walk(members, part)
    part.unread()
    lanes.join(part)
    rows = part.rows
    return found if rows is None else {name: lanes.spread(vector, rows) for name, vector in found.items()}


def _checked(members: Members, lanes: Lanes) -> None:
    _inside(members, lanes)


def _wrapped(members: Members, lanes: Lanes) -> Vector:
    return _inside(members, lanes)["value"]


def _moment(members: Members, lanes: Lanes) -> Vector:
    """In microseconds: nanoseconds of all the years are no numbers of 64 bits."""
    found = _inside(members, lanes)
    seconds = found["seconds"].numbers
    odd = (seconds < -_MOST_SECONDS) | (seconds > _MOST_SECONDS)
    lanes.fail(odd)
    numbers = np.where(odd, 0, seconds) * _MICROS + found["nanos"].numbers // 1000
    return Vector(numbers, per_second=_MICROS)


def _text(wanted: bool, lanes: Lanes) -> Vector | None:
    vector = sized(lanes)
    texts(lanes, vector)
    return vector if wanted else None


def _enum(known: Numbers, lanes: Lanes) -> Vector:
    numbers = lanes.varint().view(np.int64)
    lanes.fail(~np.isin(numbers, known))
    return Vector(numbers)


def _bounded(low: int, high: int, lanes: Lanes) -> Vector:
    numbers = lanes.varint().view(np.int64)
    lanes.fail((numbers < low) | (numbers > high))
    return Vector(numbers)


def _sint32(lanes: Lanes) -> Vector:
    return Vector(unzigzag(_bounded(0, 2**32 - 1, lanes).numbers.view(np.uint64)))


def _fixed(wire: int, form: str) -> _Way:
    dtype = np.dtype(form)
    return _Way(wire, lambda lanes: Vector(lanes.fixed(dtype)), dtype)


_INT, _UINT = np.dtype(np.int64), np.dtype(np.uint64)
_INT32: _Read = partial(_bounded, -(2**31), 2**31 - 1)
_SCALARS: Mapping[int, _Way] = {
    FieldDescriptor.TYPE_INT32: _Way(VARINT, _INT32, _INT),
    FieldDescriptor.TYPE_INT64: _Way(VARINT, lambda lanes: Vector(lanes.varint().view(np.int64)), _INT),
    FieldDescriptor.TYPE_UINT32: _Way(VARINT, partial(_bounded, 0, 2**32 - 1), _INT),
    FieldDescriptor.TYPE_UINT64: _Way(VARINT, lambda lanes: Vector(lanes.varint()), _UINT),
    FieldDescriptor.TYPE_SINT32: _Way(VARINT, _sint32, _INT),
    FieldDescriptor.TYPE_SINT64: _Way(VARINT, lambda lanes: Vector(lanes.zigzag()), _INT),
    FieldDescriptor.TYPE_BOOL: _Way(VARINT, partial(_bounded, 0, 1), _INT),
    FieldDescriptor.TYPE_ENUM: _Way(VARINT, _INT32, _INT),  # an open one has all numbers
    FieldDescriptor.TYPE_FIXED32: _fixed(FIXED32, "<u4"),
    FieldDescriptor.TYPE_SFIXED32: _fixed(FIXED32, "<i4"),
    FieldDescriptor.TYPE_FLOAT: _fixed(FIXED32, "<f4"),
    FieldDescriptor.TYPE_FIXED64: _fixed(FIXED64, "<u8"),
    FieldDescriptor.TYPE_SFIXED64: _fixed(FIXED64, "<i8"),
    FieldDescriptor.TYPE_DOUBLE: _fixed(FIXED64, "<f8"),
}
