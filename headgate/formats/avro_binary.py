"""Reads Avro's binary encoding exactly: what is not one whole record of the schema raises.

fastavro's reader is made for bytes that a writer meant: over others it takes a negative index of an enum
or a union from the end, any byte for a boolean and numbers of any length, does not look at what it skips,
allocates what a zero-byte item claims, and recurses in C. Here each of those is a `MalformedError`, and a
record is read whole by its writer's schema; fields are picked afterwards.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["MALFORMED", "MalformedError", "record_reader"]

Read = Callable[[bytes, int], tuple[Any, int]]

# Items that take no bytes can be claimed in any number: this is for all of a record's arrays together.
MOST_EMPTY_ITEMS = 10_000


class MalformedError(ValueError):
    """The bytes are not one record of the schema."""


# Whatever reading foreign bytes raises: an end too early is an IndexError or a struct.error, text that is
# no UTF-8 a ValueError, and a schema that contains itself has records of any depth.
MALFORMED = (ValueError, IndexError, struct.error, RecursionError)


class _Room(threading.local):
    """How many more items without bytes the record that is being read may have."""

    left = 0


_room = _Room()


def record_reader(schema: Any) -> Callable[[bytes], Any]:
    """What reads one record of a schema that `fastavro.parse_schema` has parsed."""
    names: dict[str, Read] = {}
    read = _reader(schema, names)

    def whole(value: bytes) -> Any:
        _room.left = MOST_EMPTY_ITEMS
        record, end = read(value, 0)
        if end != len(value):
            raise MalformedError(f"{len(value) - end} bytes are left behind the record")
        return record

    return whole


def _reader(schema: Any, names: dict[str, Read]) -> Read:
    if isinstance(schema, list):
        return _union([_reader(branch, names) for branch in schema])
    if isinstance(schema, str):
        return _PRIMITIVES.get(schema) or _named(schema, names)
    kind = schema["type"]
    make = _NAMED.get(kind) if isinstance(kind, str) else None
    return make(schema, names) if make is not None else _reader(kind, names)


def _named(name: str, names: Mapping[str, Read]) -> Read:
    def read(buffer: bytes, at: int) -> tuple[Any, int]:
        return names[name](buffer, at)  # not before: a record may contain itself

    return read


def _remembered(schema: Mapping[str, Any], names: dict[str, Read], read: Read) -> Read:
    names[schema["name"]] = read
    return read


def _record(schema: Mapping[str, Any], names: dict[str, Read]) -> Read:
    fields: list[tuple[str, Read]] = []

    def read(buffer: bytes, at: int) -> tuple[Any, int]:
        record = {}
        for name, part in fields:
            record[name], at = part(buffer, at)
        return record, at

    names[schema["name"]] = read
    fields += [(field["name"], _reader(field["type"], names)) for field in schema["fields"]]
    return read


def _null(_: bytes, at: int) -> tuple[Any, int]:
    return None, at


def _boolean(buffer: bytes, at: int) -> tuple[Any, int]:
    byte = buffer[at]
    if byte > 1:
        raise MalformedError(f"{byte} is no boolean")
    return byte == 1, at + 1


def _long(buffer: bytes, at: int) -> tuple[int, int]:
    byte = buffer[at]
    at += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at
    value, shift = byte & 0x7F, 7
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise MalformedError("a number of more than ten bytes")
    if value >> 64:
        raise MalformedError("a number of more than 64 bits")
    return (value >> 1) ^ -(value & 1), at


def _int(buffer: bytes, at: int) -> tuple[int, int]:
    value, at = _long(buffer, at)
    if not -0x80000000 <= value <= 0x7FFFFFFF:
        raise MalformedError("a number of more than 32 bits")
    return value, at


def _number(form: str) -> Read:
    packed = struct.Struct(form)
    unpack, size = packed.unpack_from, packed.size
    return lambda buffer, at: (unpack(buffer, at)[0], at + size)


def _bytes(buffer: bytes, at: int) -> tuple[bytes, int]:
    size, at = _long(buffer, at)
    end = at + size
    if size < 0 or end > len(buffer):
        raise MalformedError(f"{size} bytes are claimed, and {len(buffer) - at} are left")
    return buffer[at:end], end


def _string(buffer: bytes, at: int) -> tuple[str, int]:
    value, at = _bytes(buffer, at)
    return value.decode(), at


def _fixed(size: int) -> Read:
    def read(buffer: bytes, at: int) -> tuple[bytes, int]:
        if at + size > len(buffer):
            raise MalformedError(f"{size} bytes are wanted, and {len(buffer) - at} are left")
        return buffer[at : at + size], at + size

    return read


def _enum(symbols: tuple[str, ...]) -> Read:
    def read(buffer: bytes, at: int) -> tuple[str, int]:
        index, at = _int(buffer, at)
        if index < 0:
            raise MalformedError(f"{index} is no symbol of the enum")
        return symbols[index], at

    return read


def _union(branches: list[Read]) -> Read:
    def read(buffer: bytes, at: int) -> tuple[Any, int]:
        index, at = _long(buffer, at)
        if index < 0:
            raise MalformedError(f"{index} is no branch of the union")
        return branches[index](buffer, at)

    return read


def _array(item: Read) -> Read:
    def read(buffer: bytes, at: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        count, at, end = _block(buffer, at)
        while count:
            before = at
            for _ in range(count):
                value, at = item(buffer, at)
                items.append(value)
                if at == before:
                    _spend()
            _check_end(at, end)
            count, at, end = _block(buffer, at)
        return items, at

    return read


def _spend() -> None:
    _room.left -= 1
    if _room.left < 0:
        raise MalformedError(f"more than {MOST_EMPTY_ITEMS} items without bytes")


def _map(value: Read) -> Read:
    def read(buffer: bytes, at: int) -> tuple[dict[str, Any], int]:
        items: dict[str, Any] = {}
        count, at, end = _block(buffer, at)
        while count:
            for _ in range(count):
                key, at = _string(buffer, at)
                items[key], at = value(buffer, at)
            _check_end(at, end)
            count, at, end = _block(buffer, at)
        return items, at

    return read


def _block(buffer: bytes, at: int) -> tuple[int, int, int | None]:
    """A block's number of items, where they begin, and where they end if the block says its size."""
    count, at = _long(buffer, at)
    if count >= 0:
        return count, at, None
    size, at = _long(buffer, at)
    return -count, at, at + size


def _check_end(at: int, end: int | None) -> None:
    if end is not None and at != end:
        raise MalformedError("a block of another size than it says")


_PRIMITIVES: Mapping[str, Read] = {
    "null": _null,
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": _number("<f"),
    "double": _number("<d"),
    "bytes": _bytes,
    "string": _string,
}

_NAMED: Mapping[str, Callable[[Mapping[str, Any], dict[str, Read]], Read]] = {
    "record": _record,
    "error": _record,
    "enum": lambda schema, names: _remembered(schema, names, _enum(tuple(schema["symbols"]))),
    "fixed": lambda schema, names: _remembered(schema, names, _fixed(schema["size"])),
    "array": lambda schema, names: _array(_reader(schema["items"], names)),
    "map": lambda schema, names: _map(_reader(schema["values"], names)),
}
