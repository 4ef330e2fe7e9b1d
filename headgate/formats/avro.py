"""Avro: a schema's text checked and turned into shapes; records are read by `avro_binary`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from headgate.formats.shapes import (
    Boolean,
    Day,
    Extent,
    Field,
    Fraction,
    ListOf,
    MapOf,
    Moment,
    OneOf,
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

__all__ = ["avro_record", "canonical_text", "parse_avro"]

_PRIMITIVES: Mapping[str, Shape] = {
    "boolean": Boolean(),
    "int": Whole(-(2**31), 2**31 - 1),
    "long": Whole(-(2**63), 2**63 - 1),
    "float": Real(32),
    "double": Real(64),
    "bytes": Raw(),
    "string": Text(),
    "null": Other("always null"),
}
_LOGICAL: Mapping[tuple[str, str], Shape] = {
    ("int", "date"): Day(),
    ("long", "timestamp-millis"): Moment(1_000, zoned=True),
    ("long", "timestamp-micros"): Moment(1_000_000, zoned=True),
    ("long", "timestamp-nanos"): Moment(1_000_000_000, zoned=True),
    ("long", "local-timestamp-millis"): Moment(1_000, zoned=False),
    ("long", "local-timestamp-micros"): Moment(1_000_000, zoned=False),
    ("long", "local-timestamp-nanos"): Moment(1_000_000_000, zoned=False),
}

# Far more than a column's 38 and than any writer has a use for (some declare 64, or 1,000), and far less than
# where a calculation with such numbers fails.
MOST_DIGITS = 1_000


def parse_avro(text: str) -> Any:
    """The schema as `fastavro.parse_schema` gives it, names in full. Raises SchemaProblem."""
    from fastavro import parse_schema

    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise SchemaProblem(f"not JSON: {error.msg}", error.lineno, error.colno, "an Avro schema") from error
    except (ValueError, RecursionError) as error:  # digits without end, or brackets
        raise SchemaProblem(f"not JSON that can be read: {error}", expected="an Avro schema") from error
    try:
        parsed = parse_schema(data, _force=True)
    except Exception as error:  # fastavro takes a schema's parts as they come: what is odd shows as anything
        if isinstance(error, MemoryError):
            raise
        raise SchemaProblem(_words(error), *_place(text, error), "an Avro schema") from error
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise SchemaProblem("the schema is not a record", expected='`"type": "record"` with fields')
    return parsed


def canonical_text(text: str) -> str:
    """The text without its layout, so that only what it says decides whether two are the same.

    Raises SchemaProblem for what is no Unicode: it can be neither kept nor put into a column.
    """
    whole = json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
    with taking_apart():
        whole.encode()
    return whole


def avro_record(schema: Any) -> Record:
    """The shape of a parsed schema. Raises SchemaProblem."""
    with taking_apart():
        shape = _shape(schema, _Seen(), ())
    if not isinstance(shape, Record):
        raise SchemaProblem("the schema is not a record")
    return shape


def _words(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"a part of the schema has no {error}"
    return f"not an Avro schema: {error}"


def _place(text: str, error: Exception) -> tuple[int, int]:
    """Where the word that the error names stands; the parser tells of no places."""
    for word in re.findall(r"[A-Za-z_][\w.]*", str(error)):
        found = re.search(rf'"{re.escape(word)}"|"{re.escape(word.rpartition(".")[2])}"', text)
        if found and word not in {"type", "name", "fields"}:
            before = text[: found.start()]
            return before.count("\n") + 1, len(before) - before.rfind("\n")
    return 1, 1


@dataclass(slots=True)
class _Seen:
    """Of one schema, so far: the schemas with names in it, and how much it stands for."""

    names: dict[str, Any] = field(default_factory=dict)
    extent: Extent = field(default_factory=Extent)


def _shape(schema: Any, seen: _Seen, above: tuple[str, ...]) -> Shape:
    """`above` has the names of the schemas that this one is part of."""
    seen.extent.count()
    if isinstance(schema, list):
        return _union(schema, seen, above)
    if isinstance(schema, str):
        if schema in _PRIMITIVES:
            return _PRIMITIVES[schema]
        if schema in above:
            return Other(f"a record `{schema}` that contains itself")
        return _shape(seen.names[schema], seen, above)
    kind = schema["type"]
    if kind in {"record", "error", "enum", "fixed"}:
        seen.names[schema["name"]] = schema
    seen.extent.enter()
    shape = _complex(kind, schema, seen, above)
    seen.extent.leave()
    return shape


def _complex(kind: Any, schema: Mapping[str, Any], seen: _Seen, above: tuple[str, ...]) -> Shape:
    if kind in {"record", "error"}:
        inside = (*above, schema["name"])
        fields = tuple(_field(each, seen, inside) for each in schema["fields"])
        return Record(schema["name"].rpartition(".")[2], fields)
    if kind == "enum":
        return seen.extent.choice(schema["name"], lambda: dict(enumerate(schema["symbols"])))
    if kind == "array":
        return ListOf(_shape(schema["items"], seen, above))
    if kind == "map":
        return MapOf(Text(), _shape(schema["values"], seen, above))
    logical = _logical(kind, schema)
    return logical if logical is not None else _shape(kind, seen, above)


def _logical(kind: Any, schema: Mapping[str, Any]) -> Shape | None:
    """What a primitive or fixed type stands for; one that is not known is what it is made of."""
    logical, size = str(schema.get("logicalType")), schema.get("size")
    if kind == "fixed" and not _number(size, 0, 2**31 - 1):
        raise SchemaProblem(f"a fixed type of {size!r} bytes", expected="a number of bytes")
    if kind in {"bytes", "fixed"} and logical == "decimal" and _is_decimal(schema):
        return Fraction(schema["precision"], schema.get("scale", 0), size)
    if kind == "fixed":
        return Raw(schema["size"], uuid=logical == "uuid" and schema["size"] == 16)
    return _LOGICAL.get((kind, logical)) if isinstance(kind, str) else None


def _is_decimal(schema: Mapping[str, Any]) -> bool:
    """A decimal that is none, by Avro's rules or by ours, is what is under it: bytes."""
    return _number(schema.get("precision"), 1, MOST_DIGITS) and _number(
        schema.get("scale", 0), 0, MOST_DIGITS
    )


def _number(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _field(part: Mapping[str, Any], seen: _Seen, above: tuple[str, ...]) -> Field:
    shape = _shape(part["type"], seen, above)
    first = part["type"][0] if isinstance(part["type"], list) and part["type"] else part["type"]
    return Field(
        part["name"],
        shape,
        itemgetter(part["name"]),
        aliases=tuple(part.get("aliases", ())),
        has_default="default" in part,
        default=_default(first, part.get("default"), seen),
    )


def _within(kind: str, value: Any) -> bool:
    shape = _PRIMITIVES[kind]
    return isinstance(shape, Whole) and _number(value, shape.low, shape.high)


def _default(schema: Any, value: Any, seen: _Seen) -> Any:
    """A default as a reader of records would hand it over: bytes stand as text in a schema."""
    seen.extent.count()  # a record's default may be that of another one, and so on
    while isinstance(schema, str) and schema in seen.names:
        schema = seen.names[schema]
    kind = schema["type"] if isinstance(schema, dict) else schema
    if value is None or kind == "null":
        return None
    if kind in {"bytes", "fixed"}:
        return str(value).encode("latin-1")
    if kind in {"float", "double"}:
        return float(value)
    if kind in {"int", "long"} and not _within(kind, value):
        raise SchemaProblem(f"the default {value!r} is no {kind}", expected="a default of the field's type")
    if isinstance(schema, dict):
        make: dict[Any, Callable[[], Any]] = {
            "array": lambda: [_default(schema["items"], each, seen) for each in value],
            "map": lambda: {key: _default(schema["values"], each, seen) for key, each in value.items()},
            "record": lambda: _default_record(schema, value, seen),
        }
        if kind in make:
            return make[kind]()
        if isinstance(kind, dict):
            return _default(kind, value, seen)
    return value


def _default_record(schema: Mapping[str, Any], value: Mapping[str, Any], seen: _Seen) -> Any:
    record = {}
    for part in schema["fields"]:
        given = value.get(part["name"], part.get("default"))
        kind = part["type"][0] if isinstance(part["type"], list) else part["type"]
        record[part["name"]] = _default(kind, given, seen)
    return record


def _union(branches: list[Any], seen: _Seen, above: tuple[str, ...]) -> Shape:
    shapes: list[Shape] = []
    for branch in branches:
        if branch != "null":
            shapes = _merged(shapes, _shape(branch, seen, above))
    if not shapes:
        return Other("always null")
    return shapes[0] if len(shapes) == 1 else OneOf(tuple(shapes))


def _merged(shapes: list[Shape], one: Shape) -> list[Shape]:
    """Numbers of two sizes are read as the larger one: `["int", "long"]` is a long."""
    for i, other in enumerate(shapes):
        wider: Shape | None = None
        if isinstance(one, Whole) and isinstance(other, Whole):
            wider = Whole(min(one.low, other.low), max(one.high, other.high))
        elif isinstance(one, Real) and isinstance(other, Real):
            wider = Real(max(one.bits, other.bits))
        if wider is not None:
            return [*shapes[:i], wider, *shapes[i + 1 :]]
    return [*shapes, one]
