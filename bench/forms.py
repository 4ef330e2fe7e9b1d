"""The benchmark's records as bytes: every form of one length, so that numpy makes whole batches of them.

json         90 bytes: seq, device, ts, value, status
json-wide    2.2 kB: the same and 95 columns of numbers
avro         the same five fields, plain, as bench/pipelines/reading.avsc has them
protobuf     the same, as bench/pipelines/reading.proto has them
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "BASE_MS",
    "DAMAGED",
    "FORMS",
    "MORE_COLUMNS",
    "OUT_OF_RANGE",
    "UNKNOWN_STATUS",
    "Bytes",
    "Fields",
    "Ints",
    "digits",
    "mix",
    "row",
]

BASE_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
# What is wrong with a record; 0 is nothing.
OUT_OF_RANGE, UNKNOWN_STATUS, DAMAGED = 1, 2, 3
MORE_COLUMNS = tuple(f"metric_{number:02}" for number in range(95))

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
_JSON = b'{"seq":00000000,"device":"d-000","ts":"2026-01-01T00:00:00.000","value":00.000,"status":0}'
_VALUE_AT = _JSON.index(b'"value":') + len(b'"value":')


@dataclass(frozen=True, slots=True)
class Fields:
    """A stretch of records. `since`: milliseconds after 2026 began; `thousandths`: of a value below 100."""

    seq: Ints
    device: Ints
    since: Ints
    thousandths: Ints
    status: Ints
    flaw: Ints

    def keys(self) -> Bytes:
        return row(len(self.seq), b"d-", digits(3, self.device))


def _json(fields: Fields) -> Bytes:
    rows = np.tile(np.frombuffer(_JSON, dtype=np.uint8), (len(fields.seq), 1))
    _put(rows, _JSON.index(b"00000000"), digits(8, fields.seq))
    _put(rows, _JSON.index(b"d-000") + 2, digits(3, fields.device))
    clock = _JSON.index(b"T00:00:00.000") + 1
    for offset, width, part in (
        (0, 2, fields.since // 3_600_000),
        (3, 2, fields.since // 60_000 % 60),
        (6, 2, fields.since // 1000 % 60),
        (9, 3, fields.since % 1000),
    ):
        _put(rows, clock + offset, digits(width, part))
    _put(rows, _VALUE_AT, digits(2, fields.thousandths // 1000))
    _put(rows, _VALUE_AT + 3, digits(3, fields.thousandths % 1000))
    rows[:, -2] = fields.status + ord("0")
    rows[fields.flaw == OUT_OF_RANGE, _VALUE_AT : _VALUE_AT + 6] = np.frombuffer(b"-1.000", dtype=np.uint8)
    rows[fields.flaw == UNKNOWN_STATUS, -2] = ord("9")
    rows[fields.flaw == DAMAGED, -1] = ord(" ")
    return rows


def _json_wide(fields: Fields) -> Bytes:
    """Each further column has a number of its own, below 100,000 and never with a zero in front."""
    narrow = _json(fields)
    parts: list[bytes | Bytes] = [narrow[:, :-1]]
    for number, name in enumerate(MORE_COLUMNS):
        mixed = (mix(fields.seq + number * 100_000_000) % np.uint64(90_000_000)).astype(np.int64)
        parts += [f',"{name}":'.encode(), digits(5, 10_000 + mixed // 1000), b".", digits(3, mixed % 1000)]
    return row(len(narrow), *parts, narrow[:, -1:])


def _avro(fields: Fields) -> Bytes:
    """A length beyond the record's end is what damages one."""
    length = np.where(fields.flaw == DAMAGED, 0x7E, 2 * 5).astype(np.uint8)[:, None]
    moment = _varint(6, 2 * (BASE_MS + fields.since))
    return row(
        len(fields.seq),
        *(_varint(4, 2 * fields.seq), length, fields.keys(), moment),
        *(_doubles(fields), _varint(1, 2 * _statuses(fields))),
    )


def _protobuf(fields: Fields) -> Bytes:
    """A wire type that does not exist is what damages one."""
    device = np.where(fields.flaw == DAMAGED, 0x17, 0x12).astype(np.uint8)[:, None]
    return row(
        len(fields.seq),
        *(b"\x08", _varint(4, fields.seq), device, b"\x05", fields.keys()),
        *(b"\x18", _varint(6, BASE_MS + fields.since), b"\x21", _doubles(fields)),
        *(b"\x28", _varint(1, _statuses(fields))),
    )


FORMS: Mapping[str, Callable[[Fields], Bytes]] = {
    "json": _json,
    "json-wide": _json_wide,
    "avro": _avro,
    "protobuf": _protobuf,
}


def _doubles(fields: Fields) -> Bytes:
    values = np.where(fields.flaw == OUT_OF_RANGE, -1.0, fields.thousandths / 1000)
    return values.astype("<f8").view(np.uint8).reshape(-1, 8)


def _statuses(fields: Fields) -> Ints:
    return np.where(fields.flaw == UNKNOWN_STATUS, 9, fields.status)


def _varint(width: int, number: Ints) -> Bytes:
    """Base-128 numbers that all take `width` bytes. Raises ValueError for one that does not."""
    least = 1 << 7 * (width - 1) if width > 1 else 0
    if number.min() < least or number.max() >= 1 << 7 * width:
        raise ValueError(f"a number does not take {width} bytes")
    columns = [number >> 7 * place & 0x7F | (0x80 if place < width - 1 else 0) for place in range(width)]
    return np.stack(columns, axis=1).astype(np.uint8)


def mix(number: Ints) -> npt.NDArray[np.uint64]:
    """Even bits from a counter, so that values do not compress better than real ones would."""
    x = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(29)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    return x ^ (x >> np.uint64(32))


def digits(width: int, number: Ints) -> Bytes:
    """Whole numbers in decimal, with zeros in front."""
    columns = [number // 10**place % 10 + ord("0") for place in reversed(range(width))]
    return np.stack(columns, axis=1).astype(np.uint8)


def _put(rows: Bytes, place: int, text: Bytes) -> None:
    rows[:, place : place + text.shape[1]] = text


def row(count: int, *parts: bytes | Bytes) -> Bytes:
    """Parts side by side; bytes are the same in every row."""
    told = [
        np.broadcast_to(np.frombuffer(part, dtype=np.uint8), (count, len(part)))
        if isinstance(part, bytes)
        else part
        for part in parts
    ]
    return np.concatenate(told, axis=1)
