"""One record on its way to Kafka, and how it is framed in a spool file."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["MAGIC", "Damage", "Framed", "Record", "frame", "frames"]

MAGIC = b"headgate-spool-1\n"
_FRAME = struct.Struct("<II")  # length of the payload, CRC-32 of the payload
_PAYLOAD = struct.Struct("<qiI")  # timestamp, length of the key (-1: none), length of the headers
_HEADER_BYTES = 64
# Larger than any record Kafka takes: a longer length is a damaged one.
_LONGEST = 256 * 1024 * 1024


class Record(NamedTuple):
    """`timestamp_ms` is when the record was taken on; it stays the same through the spool."""

    value: bytes
    key: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        """Bytes on the wire, roughly and rather too many: headers are short and not measured."""
        return len(self.value) + len(self.key or b"") + _HEADER_BYTES * len(self.headers) + 32


class Framed(NamedTuple):
    record: Record
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Where a spool file stops being readable. `torn`: it just ends there, as after a power cut."""

    offset: int
    bytes_left: int
    torn: bool


def frame(record: Record) -> bytes:
    headers = json.dumps([[name, value.decode("latin-1")] for name, value in record.headers]).encode()
    key = record.key
    head = _PAYLOAD.pack(record.timestamp_ms, -1 if key is None else len(key), len(headers))
    payload = b"".join((head, key or b"", headers, record.value))
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def frames(data: memoryview, start: int) -> Iterator[Framed | Damage]:
    """The records of a spool file's content from an offset; a Damage, if any, comes last."""
    position = max(start, len(MAGIC))
    total = len(data)
    if total < len(MAGIC) or bytes(data[: len(MAGIC)]) != MAGIC:
        yield Damage(0, total, torn=total < len(MAGIC))
        return
    while position < total:
        if total - position < _FRAME.size:
            yield Damage(position, total - position, torn=True)
            return
        length, checksum = _FRAME.unpack_from(data, position)
        first = position + _FRAME.size
        if length < _PAYLOAD.size or length > _LONGEST:
            yield Damage(position, total - position, torn=False)
            return
        payload = data[first : first + length]
        if len(payload) < length:
            yield Damage(position, total - position, torn=True)
            return
        if zlib.crc32(payload) != checksum:
            yield Damage(position, total - position, torn=first + length == total)
            return
        yield Framed(_decode(payload), position, first + length)
        position = first + length


def _decode(payload: memoryview) -> Record:
    timestamp, key_length, headers_length = _PAYLOAD.unpack_from(payload)
    position = _PAYLOAD.size
    key = None
    if key_length >= 0:
        key = bytes(payload[position : position + key_length])
        position += key_length
    headers = json.loads(bytes(payload[position : position + headers_length]))
    value = bytes(payload[position + headers_length :])
    return Record(value, key, timestamp, tuple((name, text.encode("latin-1")) for name, text in headers))
