"""Whether records that were written before a change of the schema can still be read after it. Pure.

With a registry each record says its schema, and it is enough that the new reader resolves the old schema.
Without one the bytes say nothing: they are read by the new schema, so that it must lay them out as the old
one did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headgate.contract.model import Source
from headgate.formats.decoder import unresolved
from headgate.formats.schema import schema_of
from headgate.formats.shapes import SchemaProblem

__all__ = ["unreadable_after"]

_NO_ID = (
    "its records carry no schema's id, and those that were written before would be read as something else"
)


def unreadable_after(old: Source, new: Source) -> str | None:
    """Why the new source cannot read the old one's records; None when it can."""
    if not (old.with_schema or new.with_schema):
        return None
    before, after = _kind(old), _kind(new)
    if before != after:
        return f"the records that are there are {before}, and would be read as {after}"
    assert old.record_schema is not None and new.record_schema is not None, "their kind says so"
    if new.record_schema.registry:
        why = unresolved(schema_of(new), new, str(old.record_schema.text))
        return f"records of the schema that is applied cannot be read: {why}" if why else None
    if (
        old.record_schema.text == new.record_schema.text
        and old.record_schema.message == new.record_schema.message
    ):
        return None
    found = next(_avro(old, new) if new.format == "avro" else _protobuf(old, new), None)
    return f"{found}; {_NO_ID}" if found else None


def _kind(source: Source) -> str:
    words = {"json": "JSON", "text": "text", "avro": "Avro", "protobuf": "Protobuf"}[source.format]
    framed = source.record_schema is not None and source.record_schema.registry
    return f"{words} in the registry's wire format" if framed else words


def _avro(old: Source, new: Source) -> Iterator[str]:
    from headgate.formats.avro import parse_avro

    schemas = [parse_avro(str(each.record_schema.text)) for each in (old, new) if each.record_schema]
    yield from _differences(schemas[0], schemas[1], {}, {}, "the record")


def _differences(
    old: Any, new: Any, before: dict[str, Any], after: dict[str, Any], what: str
) -> Iterator[str]:
    """`before` and `after` are the named types of both schemas so far."""
    old, seen = _named(old, before)
    new, _ = _named(new, after)
    if seen:
        return  # a type that was compared where it stands first
    kinds = _kind_of(old), _kind_of(new)
    if kinds[0] != kinds[1]:
        yield f"{what} was {kinds[0]} and becomes {kinds[1]}"
    elif isinstance(old, list):
        if len(old) != len(new):
            yield f"{what} has another number of branches"
        for one, other in zip(old, new, strict=False):
            yield from _differences(one, other, before, after, what)
    elif isinstance(old, dict):
        yield from _inside(old, new, before, after, what)


def _inside(old: Any, new: Any, before: dict[str, Any], after: dict[str, Any], what: str) -> Iterator[str]:
    kind = old["type"]
    if kind == "record":
        yield from _fields(old, new, before, after)
    elif kind == "array":
        yield from _differences(old["items"], new["items"], before, after, f"an item of {what}")
    elif kind == "map":
        yield from _differences(old["values"], new["values"], before, after, f"a value of {what}")
    elif kind == "enum" and new["symbols"][: len(old["symbols"])] != old["symbols"]:
        yield f"{what} has other symbols, or in another order"
    elif kind == "fixed" and old["size"] != new["size"]:
        yield f"{what} has another size"


def _fields(old: Any, new: Any, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for one, other in zip(old["fields"], new["fields"], strict=False):
        if one["name"] not in {other["name"], *other.get("aliases", ())}:
            yield f"the field `{other['name']}` stands where `{one['name']}` was"
            return
        yield from _differences(one["type"], other["type"], before, after, f"`{one['name']}`")
    more = len(new["fields"]) - len(old["fields"])
    if more:
        name = (new if more > 0 else old)["fields"][min(len(new["fields"]), len(old["fields"]))]["name"]
        yield f"the field `{name}` {'is new' if more > 0 else 'is gone'}"


def _named(schema: Any, names: dict[str, Any]) -> tuple[Any, bool]:
    if isinstance(schema, str):
        return names.get(schema, schema), schema in names
    if isinstance(schema, dict) and "name" in schema:
        names[schema["name"]] = schema
    return schema, False


def _kind_of(schema: Any) -> str:
    if isinstance(schema, list):
        return "a union"
    if isinstance(schema, str):
        return schema
    logical = schema.get("logicalType")
    scale = f"({schema.get('precision')},{schema.get('scale', 0)})" if logical == "decimal" else ""
    kind = schema["type"] if isinstance(schema["type"], str) else _kind_of(schema["type"])
    return f"{kind} ({logical}{scale})" if logical else kind


# What Protobuf writes alike: within a group a field may change its type.
_GROUPS = (
    "int32 int64 uint32 uint64 bool enum",
    "sint32 sint64",
    "fixed32 sfixed32",
    "fixed64 sfixed64",
    "string bytes",
)


def _protobuf(old: Source, new: Source) -> Iterator[str]:
    from headgate.formats.protobuf import message_class

    try:
        messages = [
            message_class(str(each.record_schema.text), str(each.record_schema.message)).DESCRIPTOR
            for each in (old, new)
            if each.record_schema is not None
        ]
    except SchemaProblem as problem:
        yield problem.message
        return
    yield from _numbers(messages[0], messages[1], ())


def _numbers(old: Any, new: Any, above: tuple[str, ...]) -> Iterator[str]:
    if old.full_name in above:
        return
    for number, field in old.fields_by_number.items():
        other = new.fields_by_number.get(number)
        if other is None:
            continue  # a field that is gone is passed over
        if field.name != other.name:
            yield f"field {number} of `{old.name}` was `{field.name}` and becomes `{other.name}`"
        elif _group(field) != _group(other) or field.is_repeated != other.is_repeated:
            yield f"field {number}, `{field.name}`, of `{old.name}` has another type"
        elif field.message_type is not None:
            yield from _numbers(field.message_type, other.message_type, (*above, old.full_name))


def _group(field: Any) -> str:
    names = {value: name.removeprefix("TYPE_").lower() for name, value in vars(type(field)).items()
             if name.startswith("TYPE_")}  # fmt: skip
    name = names[field.type]
    return next((group for group in _GROUPS if name in group.split()), name)
