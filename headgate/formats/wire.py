"""The Confluent wire format: a zero byte, the schema's id, for Protobuf the message's path, the record."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.formats.avro_binary import MalformedError

__all__ = ["Framed", "frame", "split"]

_HEAD = 5
# A message inside a message inside a message: no schema is nested so deep, and a hostile count is refused.
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Framed:
    schema_id: int
    path: tuple[int, ...]  # of the message among the schema's messages; empty for Avro
    body: bytes


def split(value: bytes, *, with_path: bool) -> Framed:
    """Raises MalformedError, or IndexError for bytes that end too early."""
    if len(value) < _HEAD or value[0] != 0:
        raise MalformedError("not in the registry's wire format: no zero byte and four of an id")
    schema_id = int.from_bytes(value[1:_HEAD], "big")
    if not with_path:
        return Framed(schema_id, (), value[_HEAD:])
    count, at = _varint(value, _HEAD)
    if not 0 <= count <= _DEEPEST:
        raise MalformedError(f"a path of {count} messages")
    path = []
    for _ in range(count):
        index, at = _varint(value, at)
        path.append(index)
    # The first message of a schema has the path [0], which is written as a count of nothing.
    return Framed(schema_id, tuple(path) or (0,), value[at:])


def frame(schema_id: int, path: tuple[int, ...], body: bytes) -> bytes:
    """The record as split() takes it apart; an empty path is Avro's."""
    head = b"\0" + schema_id.to_bytes(4, "big")
    if not path:
        return head + body
    if path == (0,):
        return head + b"\0" + body
    return head + b"".join(_zigzag(number) for number in (len(path), *path)) + body


def _varint(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = value[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
        shift += 7
        if shift > 63:
            raise MalformedError("a number of more than ten bytes")


def _zigzag(number: int) -> bytes:
    number <<= 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
