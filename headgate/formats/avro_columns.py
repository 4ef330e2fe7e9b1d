"""Avro's binary encoding read in lock-step: the plain part of what `avro_binary` reads.

Arrays, maps, unions of more than null and one other, and schemas that contain themselves are not read here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np

from headgate.formats.lockstep import Lanes, Vector, texts
from headgate.formats.schema import ReadVectors

__all__ = ["avro_vectors"]

_Read = Callable[[Lanes], Vector | None]
_OFTEN = 16  # fields after which it is asked again whether most records are not `ok`
# A field costs a block about what it costs so many records that are read one at a time.
_LEAST = 64
_REAL32, _REAL64 = np.dtype("<f4"), np.dtype("<f8")


class _NotPlainError(Exception):
    """There is something in the schema that is not read in lock-step."""


def avro_vectors(schema: Any, wanted: Collection[str]) -> ReadVectors | None:
    """What reads whole records of a parsed schema and hands over the wanted fields, none of them a record;
    None for a schema that is not plain."""
    names: dict[str, Any] = {}
    try:
        fields = _fields(schema, names, (), wanted)
    except _NotPlainError:
        return None

    return ReadVectors(partial(_each, fields, wanted), _LEAST)


def _each(fields: list[tuple[str, _Read]], wanted: Collection[str], lanes: Lanes) -> Mapping[str, Vector]:
    """Not all of them where no record is left that is `ok`."""
    found: dict[str, Vector] = {}
    for place, (name, read) in enumerate(fields, 1):
        vector = read(lanes)
        if vector is not None and name in wanted:
            found[name] = vector
        if place % _OFTEN:
            continue
        kept = lanes.narrow()
        if not len(lanes.at):
            break
        if kept is not None:
            found = {each: one.only(kept) for each, one in found.items()}
    return found


def _fields(
    schema: Mapping[str, Any], names: dict[str, Any], above: tuple[str, ...], wanted: Collection[str] = ()
) -> list[tuple[str, _Read]]:
    names[schema["name"]] = schema
    inside = (*above, schema["name"])
    fields = [
        (each["name"], _reader(each["type"], names, inside, each["name"] in wanted))
        for each in schema["fields"]
    ]
    if len({name for name, _ in fields}) < len(fields):
        raise _NotPlainError
    return fields


def _reader(schema: Any, names: dict[str, Any], above: tuple[str, ...], wanted: bool) -> _Read:
    if isinstance(schema, list):
        return _union(schema, names, above, wanted)
    if isinstance(schema, str):
        if schema in _PRIMITIVES:
            return _string if schema == "string" and not wanted else _PRIMITIVES[schema]
        if schema in above or schema not in names:
            raise _NotPlainError
        return _reader(names[schema], names, above, wanted)
    return _complex(schema["type"], schema, names, above, wanted)


def _complex(
    kind: Any, schema: Mapping[str, Any], names: dict[str, Any], above: tuple[str, ...], wanted: bool
) -> _Read:
    if not isinstance(kind, str):
        return _reader(kind, names, above, wanted)
    if kind in {"array", "map"}:
        raise _NotPlainError
    if kind in {"record", "error"}:
        return _record(_fields(schema, names, above))
    if kind in {"enum", "fixed"}:
        names[schema["name"]] = schema
        return partial(_enum, len(schema["symbols"])) if kind == "enum" else partial(_fixed, schema["size"])
    return _reader(kind, names, above, wanted)


def _record(fields: list[tuple[str, _Read]]) -> _Read:
    def read(lanes: Lanes) -> None:
        part = lanes.apart()
        _each(fields, (), part)
        lanes.join(part)

    return read


def _null(_: Lanes) -> None:
    return None


def _boolean(lanes: Lanes) -> Vector:
    numbers = lanes.buffer.data[lanes.at]
    lanes.skip(1)
    lanes.fail(numbers > 1)
    return Vector(numbers)


def _int(lanes: Lanes) -> Vector:
    numbers = lanes.zigzag()
    lanes.fail((numbers < -(2**31)) | (numbers >= 2**31))
    return Vector(numbers)


def _long(lanes: Lanes) -> Vector:
    return Vector(lanes.zigzag())


def _bytes(lanes: Lanes) -> Vector:
    return lanes.taken(lanes.zigzag())


def _string(lanes: Lanes) -> None:
    """Text that no column has must be text all the same."""
    texts(lanes, _bytes(lanes))


def _fixed(size: int, lanes: Lanes) -> Vector:
    return lanes.taken(np.full(len(lanes.at), size, np.int64))


def _enum(symbols: int, lanes: Lanes) -> Vector:
    vector = _int(lanes)
    lanes.fail((vector.numbers < 0) | (vector.numbers >= symbols))
    return vector


def _union(branches: list[Any], names: dict[str, Any], above: tuple[str, ...], wanted: bool) -> _Read:
    if len(branches) != 2 or branches.count("null") != 1:
        raise _NotPlainError
    other = 1 - branches.index("null")
    inside = _reader(branches[other], names, above, wanted)

    def read(lanes: Lanes) -> Vector | None:
        index = lanes.zigzag()
        lanes.fail((index < 0) | (index > 1))
        there = lanes.ok & (index == other)
        if there.all():
            return inside(lanes)
        rows = np.flatnonzero(there)
        part = lanes.only(rows)
        vector = inside(part)
        lanes.put(rows, part)
        return None if vector is None else lanes.spread(vector, rows)

    return read


_PRIMITIVES: Mapping[str, _Read] = {
    "null": _null,
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": lambda lanes: Vector(lanes.fixed(_REAL32)),
    "double": lambda lanes: Vector(lanes.fixed(_REAL64)),
    "bytes": _bytes,
    "string": _bytes,
}
