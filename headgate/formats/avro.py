"""Avro: a schema's text checked and turned into shapes; records are read by `avro_binary`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from headgate.formats.shapes import (
    Boolean,
    Choice,
    Day,
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


def parse_avro(text: str) -> Any:
    """The schema as `fastavro.parse_schema` gives it, names in full. Raises SchemaProblem."""
    from fastavro import parse_schema
    from fastavro.schema import SchemaParseException, UnknownType

    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise SchemaProblem(f"not JSON: {error.msg}", error.lineno, error.colno, "an Avro schema") from error
    except RecursionError as error:
        raise SchemaProblem("not JSON that can be read: nested too deeply") from error
    try:
        parsed = parse_schema(data, _force=True)
    except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError, AttributeError) as error:
        # fastavro takes a schema's parts as they come: what is missing or odd shows as any of these.
        raise SchemaProblem(_words(error), *_place(text, error), "an Avro schema") from error
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise SchemaProblem("the schema is not a record", expected='`"type": "record"` with fields')
    return parsed


def canonical_text(text: str) -> str:
    """The text without its layout, so that only what it says decides whether two are the same."""
    return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)


def avro_record(schema: Any) -> Record:
    """The shape of a parsed schema."""
    shape = _shape(schema, {}, ())
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


def _shape(schema: Any, names: dict[str, Any], above: tuple[str, ...]) -> Shape:
    """`names` has the schemas with names so far, `above` those that this one is part of."""
    if isinstance(schema, list):
        return _union(schema, names, above)
    if isinstance(schema, str):
        if schema in _PRIMITIVES:
            return _PRIMITIVES[schema]
        if schema in above:
            return Other(f"a record `{schema}` that contains itself")
        return _shape(names[schema], names, above)
    kind = schema["type"]
    if kind in {"record", "error", "enum", "fixed"}:
        names[schema["name"]] = schema
    return _complex(kind, schema, names, above)


def _complex(kind: Any, schema: Mapping[str, Any], names: dict[str, Any], above: tuple[str, ...]) -> Shape:
    if kind in {"record", "error"}:
        inside = (*above, schema["name"])
        fields = tuple(_field(each, names, inside) for each in schema["fields"])
        return Record(schema["name"].rpartition(".")[2], fields)
    if kind == "enum":
        return Choice(dict(enumerate(schema["symbols"])))
    if kind == "array":
        return ListOf(_shape(schema["items"], names, above))
    if kind == "map":
        return MapOf(Text(), _shape(schema["values"], names, above))
    logical = _logical(kind, schema)
    return logical if logical is not None else _shape(kind, names, above)


def _logical(kind: Any, schema: Mapping[str, Any]) -> Shape | None:
    """What a primitive or fixed type stands for; one that is not known is what it is made of."""
    logical = str(schema.get("logicalType"))
    if kind in {"bytes", "fixed"} and logical == "decimal" and int(schema.get("precision", 0)) > 0:
        return Fraction(int(schema["precision"]), int(schema.get("scale", 0)), schema.get("size"))
    if kind == "fixed":
        return Raw(schema["size"], uuid=logical == "uuid" and schema["size"] == 16)
    return _LOGICAL.get((kind, logical)) if isinstance(kind, str) else None


def _field(field: Mapping[str, Any], names: dict[str, Any], above: tuple[str, ...]) -> Field:
    shape = _shape(field["type"], names, above)
    first = field["type"][0] if isinstance(field["type"], list) and field["type"] else field["type"]
    return Field(
        field["name"],
        shape,
        itemgetter(field["name"]),
        aliases=tuple(field.get("aliases", ())),
        has_default="default" in field,
        default=_default(first, field.get("default"), names),
    )


def _default(schema: Any, value: Any, names: Mapping[str, Any]) -> Any:
    """A default as a reader of records would hand it over: bytes stand as text in a schema."""
    while isinstance(schema, str) and schema in names:
        schema = names[schema]
    kind = schema["type"] if isinstance(schema, dict) else schema
    if value is None or kind == "null":
        return None
    if kind in {"bytes", "fixed"}:
        return str(value).encode("latin-1")
    if kind in {"float", "double"}:
        return float(value)
    if isinstance(schema, dict):
        make: dict[Any, Callable[[], Any]] = {
            "array": lambda: [_default(schema["items"], each, names) for each in value],
            "map": lambda: {key: _default(schema["values"], each, names) for key, each in value.items()},
            "record": lambda: _default_record(schema, value, names),
        }
        if kind in make:
            return make[kind]()
        if isinstance(kind, dict):
            return _default(kind, value, names)
    return value


def _default_record(schema: Mapping[str, Any], value: Mapping[str, Any], names: Mapping[str, Any]) -> Any:
    record = {}
    for field in schema["fields"]:
        given = value.get(field["name"], field.get("default"))
        kind = field["type"][0] if isinstance(field["type"], list) else field["type"]
        record[field["name"]] = _default(kind, given, names)
    return record


def _union(branches: list[Any], names: dict[str, Any], above: tuple[str, ...]) -> Shape:
    shapes: list[Shape] = []
    for branch in branches:
        if branch != "null":
            shapes = _merged(shapes, _shape(branch, names, above))
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
