"""Records of JSON as bytes of a schema: what the producers send, and what tests and the torture make."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from headgate.contract.model import Source
from headgate.errors import RefusedError
from headgate.formats.encode_values import Time, Times, UnencodableError, named_value, record_values, short
from headgate.formats.shapes import Moment, Record, Shape
from headgate.formats.wire import frame

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

__all__ = ["Encode", "UnencodableError", "encoder"]

Encode = Callable[[Mapping[str, Any]], bytes]

# What the formats' libraries raise for a value that does not fit its schema.
_MISFIT = (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError, struct.error)


def encoder(source: Source, times: Times) -> Encode:
    """What makes a record's bytes from its JSON object; framed where the source has a registry."""
    schema = source.record_schema
    if schema is None or schema.text is None or (schema.registry and schema.id is None):
        raise RefusedError(
            f"the schema of topic {source.topic} is not known yet",
            expected="a contract that was applied",
            help="headgate plan && headgate apply",
        )
    path: tuple[int, ...] = ()
    if source.format == "avro":
        encode = _avro(schema.text, times)
    else:
        encode = _protobuf(schema.text, str(schema.message), times)
        path = _path(schema.text, str(schema.message)) if schema.registry else ()
    if not schema.registry or schema.id is None:
        return encode
    return partial(_framed, schema.id, path, encode)


def _framed(schema_id: int, path: tuple[int, ...], encode: Encode, record: Mapping[str, Any]) -> bytes:
    return frame(schema_id, path, encode(record))


def _avro(text: str, times: Times) -> Encode:
    from fastavro import schemaless_writer

    from headgate.formats.avro import avro_record, parse_avro

    schema = parse_avro(text)
    shape = avro_record(schema)

    def encode(record: Mapping[str, Any]) -> bytes:
        out = io.BytesIO()
        try:
            values = record_values(shape, record, times)
            schemaless_writer(out, schema, values, strict_allow_default=True)
        except UnencodableError:
            raise
        except _MISFIT as error:
            raise UnencodableError(str(error)) from error
        return out.getvalue()

    return encode


def _protobuf(text: str, name: str, times: Times) -> Encode:
    from headgate.formats.protobuf import message_class

    message = message_class(text, name)

    def encode(record: Mapping[str, Any]) -> bytes:
        made = message()
        try:
            _fill(made, record, times)
            body: bytes = made.SerializeToString()
        except UnencodableError:
            raise
        except _MISFIT as error:
            raise UnencodableError(str(error)) from error
        return body

    return encode


def _path(text: str, name: str) -> tuple[int, ...]:
    from headgate.formats.protobuf import message_path

    return message_path(text, name)


def _fill(message: Message, record: Any, times: Times) -> None:
    if not isinstance(record, Mapping):
        raise UnencodableError(f"{short(record)} is not an object for `{message.DESCRIPTOR.name}`")
    for field in message.DESCRIPTOR.fields:
        value = record.get(field.name)
        if value is not None:
            _set(message, field, value, times.get(field.name))


def _set(message: Message, field: FieldDescriptor, value: Any, time: Time | None) -> None:
    from headgate.formats.protobuf_shapes import single_shape

    inside = getattr(message, field.name)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        one = entry.fields_by_name["value"]
        for key, each in value.items():
            name = key if entry.fields_by_name["key"].cpp_type == field.CPPTYPE_STRING else int(key)
            if one.message_type is not None:
                _put(inside[name], single_shape(one), each, None)
            else:
                inside[name] = named_value(field.name, single_shape(one), each, None)
    elif field.is_repeated:
        for each in value:
            if entry is not None:
                _put(inside.add(), single_shape(field), each, None)
            else:
                inside.append(named_value(field.name, single_shape(field), each, None))
    elif entry is not None:
        inside.SetInParent()
        _put(inside, single_shape(field), value, time)
    else:
        setattr(message, field.name, named_value(field.name, single_shape(field), value, time))


def _put(message: Message, shape: Shape, value: Any, time: Time | None) -> None:
    """A value into a message: a time, a wrapped scalar, or another message."""
    if isinstance(shape, Record):
        _fill(message, value, {})
        return
    plain = named_value(message.DESCRIPTOR.name, shape, value, time)
    if isinstance(shape, Moment):
        seconds, nanos = divmod(plain, 1_000_000_000)
        message.seconds, message.nanos = seconds, nanos
    else:
        message.value = plain
