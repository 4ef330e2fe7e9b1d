"""What a Protobuf message holds, as shapes, and how its values are taken out of Python's message."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from headgate.formats.convert import UnreadableError
from headgate.formats.shapes import (
    Boolean,
    Extent,
    Field,
    ListOf,
    MapOf,
    Moment,
    Other,
    Raw,
    Real,
    Record,
    SchemaProblem,
    Shape,
    Text,
    Whole,
    taking_apart,
)

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

__all__ = ["TIMESTAMP", "WRAPPERS", "protobuf_record", "single_shape"]

TIMESTAMP = "google.protobuf.Timestamp"
WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
_DYNAMIC = frozenset(f"google.protobuf.{name}" for name in ("Any", "Struct", "Value", "ListValue"))
_BOUNDS = {32: (2**31, 2**32), 64: (2**63, 2**64)}


def protobuf_record(message: type[Message]) -> Record:
    """Raises SchemaProblem."""
    with taking_apart():
        shape = _message(message.DESCRIPTOR, (), Extent())
    if not isinstance(shape, Record):
        raise SchemaProblem(f"`{message.DESCRIPTOR.full_name}` is not a record: it is made for one value")
    return shape


def _message(message: Descriptor, above: tuple[str, ...], extent: Extent) -> Shape:
    name = message.full_name
    if name == TIMESTAMP:
        return Moment(1_000_000_000, zoned=True)
    if name in WRAPPERS:
        return _single(message.fields_by_name["value"], above, extent)
    if name in _DYNAMIC:
        return Other(f"a `{name}`, which has no type of its own")
    if name in above:
        return Other(f"a message `{name}` that contains itself")
    inside = (*above, name)
    extent.enter()
    fields = tuple(_field(field, inside, extent) for field in message.fields)
    extent.leave()
    return Record(message.name, fields)


def _field(field: FieldDescriptor, above: tuple[str, ...], extent: Extent) -> Field:
    shape, get = _value(field, above, extent)
    return Field(field.name, shape, get, number=field.number, has_default=True, default=_absent(field))


def _value(
    field: FieldDescriptor, above: tuple[str, ...], extent: Extent
) -> tuple[Shape, Callable[[Any], Any]]:
    shape, get = _known_value(field, above, extent)
    entry = field.message_type
    one = entry.fields_by_name["value"] if entry is not None and entry.GetOptions().map_entry else field
    closed = one.enum_type is not None and one.enum_type.is_closed
    return shape, _all_known(field, get) if closed else get


def _all_known(field: FieldDescriptor, get: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A number that a closed enum has not does not become a value: the parser puts it aside."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    name, number = field.full_name, field.number

    def read(record: Any) -> Any:
        if any(each.field_number == number for each in UnknownFieldSet(record)):
            raise UnreadableError(f"the enum of `{name}` has not the number that is there")
        return get(record)

    return read


def _known_value(
    field: FieldDescriptor, above: tuple[str, ...], extent: Extent
) -> tuple[Shape, Callable[[Any], Any]]:
    name = field.name
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        name_of, one = _plain(key), _plain(value)
        pairs = MapOf(_single(key, above, extent), _single(value, above, extent))
        return pairs, lambda record: {name_of(k): one(v) for k, v in getattr(record, name).items()}
    one = _plain(field)
    if field.is_repeated:
        return ListOf(_single(field, above, extent)), lambda record: [one(v) for v in getattr(record, name)]
    if field.has_presence:
        shape = _single(field, above, extent)
        return shape, lambda record: one(getattr(record, name)) if record.HasField(name) else None
    return _single(field, above, extent), lambda record: one(getattr(record, name))


def _absent(field: FieldDescriptor) -> Any:
    """What a message of a writer that did not know the field reads as."""
    entry = field.message_type
    if field.is_repeated:
        return {} if entry is not None and entry.GetOptions().map_entry else []
    return None if field.has_presence else field.default_value


def _plain(field: FieldDescriptor) -> Callable[[Any], Any]:
    """From what Python's protobuf hands over to a plain value."""
    message = field.message_type
    if message is None and field.type == field.TYPE_STRING:
        return _text
    if message is None:
        return lambda value: value
    if message.full_name == TIMESTAMP:
        return lambda value: value.seconds * 1_000_000_000 + value.nanos
    if message.full_name in WRAPPERS:
        return lambda value: value.value
    return lambda value: value


def _text(value: str | bytes) -> str:
    """Text of proto2 that is no UTF-8 comes as bytes."""
    return value if isinstance(value, str) else value.decode()


def _single(field: FieldDescriptor, above: tuple[str, ...], extent: Extent) -> Shape:
    extent.count()
    if field.message_type is not None:
        return _message(field.message_type, above, extent)
    if (enum := field.enum_type) is not None:
        return extent.choice(enum.full_name, lambda: {each.number: each.name for each in enum.values}, True)
    return _scalars()[field.type]


def single_shape(field: FieldDescriptor) -> Shape:
    """The shape of one value of a field, of a repeated one too."""
    return _single(field, (), Extent())


@lru_cache(maxsize=1)
def _scalars() -> dict[int, Shape]:
    from google.protobuf.descriptor import FieldDescriptor as F

    shapes: dict[int, Shape] = {
        F.TYPE_BOOL: Boolean(),
        F.TYPE_FLOAT: Real(32),
        F.TYPE_DOUBLE: Real(64),
        F.TYPE_STRING: Text(),
        F.TYPE_BYTES: Raw(),
    }
    for bits, signed, unsigned in (
        (32, (F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32), (F.TYPE_UINT32, F.TYPE_FIXED32)),
        (64, (F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64), (F.TYPE_UINT64, F.TYPE_FIXED64)),
    ):
        half, whole = _BOUNDS[bits]
        shapes |= {kind: Whole(-half, half - 1) for kind in signed}
        shapes |= {kind: Whole(0, whole - 1) for kind in unsigned}
    return shapes
