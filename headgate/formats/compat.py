"""Whether records that were written before a change of the schema can still be read after it. Pure.

With a registry each record says its schema, and it is enough that the new reader resolves the old schema.
Without one the bytes say nothing: they are read by the new schema, so that it must lay them out as the old
one did.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
    yield from _differences(schemas[0], schemas[1], _Named({}, {}, set()), "the record")


@dataclass(frozen=True, slots=True)
class _Named:
    """The types with names of both schemas so far, and which of them were compared with which."""

    before: dict[str, Any]
    after: dict[str, Any]
    compared: set[tuple[str | None, str | None]]


def _differences(old: Any, new: Any, named: _Named, what: str) -> Iterator[str]:
    old, new = _type(old, named.before), _type(new, named.after)
    kinds = _kind_of(old), _kind_of(new)
    if kinds[0] != kinds[1]:
        yield f"{what} was {kinds[0]} and becomes {kinds[1]}"
    elif isinstance(old, list):
        if len(old) != len(new):
            yield f"{what} has another number of branches"
        for one, other in zip(old, new, strict=False):
            yield from _differences(one, other, named, what)
    elif isinstance(old, dict):
        pair = (old.get("name"), new.get("name"))
        if None in pair or pair not in named.compared:
            named.compared.add(pair)  # before its fields, which may be of this type
            yield from _inside(old, new, named, what)


def _inside(old: Any, new: Any, named: _Named, what: str) -> Iterator[str]:
    kind = old["type"]
    if kind in {"record", "error"}:
        yield from _fields(old, new, named)
    elif kind == "array":
        yield from _differences(old["items"], new["items"], named, f"an item of {what}")
    elif kind == "map":
        yield from _differences(old["values"], new["values"], named, f"a value of {what}")
    elif kind == "enum" and new["symbols"][: len(old["symbols"])] != old["symbols"]:
        yield f"{what} has other symbols, or in another order"
    elif kind == "fixed" and old["size"] != new["size"]:
        yield f"{what} has another size"


def _fields(old: Any, new: Any, named: _Named) -> Iterator[str]:
    for one, other in zip(old["fields"], new["fields"], strict=False):
        if one["name"] not in {other["name"], *other.get("aliases", ())}:
            yield f"the field `{other['name']}` stands where `{one['name']}` was"
            return
        yield from _differences(one["type"], other["type"], named, f"`{one['name']}`")
    more = len(new["fields"]) - len(old["fields"])
    if more:
        name = (new if more > 0 else old)["fields"][min(len(new["fields"]), len(old["fields"]))]["name"]
        yield f"the field `{name}` {'is new' if more > 0 else 'is gone'}"


def _type(schema: Any, names: dict[str, Any]) -> Any:
    """The type that a name stands for; one that stands here itself is remembered."""
    if isinstance(schema, str):
        return names.get(schema, schema)
    if isinstance(schema, dict) and "name" in schema:
        names[schema["name"]] = schema
    return schema


def _kind_of(schema: Any) -> str:
    if isinstance(schema, list):
        return "a union"
    if isinstance(schema, str):
        return schema
    logical = schema.get("logicalType")
    scale = f"({schema.get('precision')},{schema.get('scale', 0)})" if logical == "decimal" else ""
    kind = schema["type"] if isinstance(schema["type"], str) else _kind_of(schema["type"])
    return f"{kind} ({logical}{scale})" if logical else kind


# What Protobuf writes alike, with the values that each type can have: a field may become a type of its group
# that has all values of the old one. An enum's numbers have 32 bits; a closed one, as proto2's are, has none
# but those with a name. Text is some of what bytes can be.
_GROUPS: tuple[Mapping[str, tuple[int, int]], ...] = (
    {
        "bool": (0, 1),
        "int32": (-(2**31), 2**31 - 1),
        "enum": (-(2**31), 2**31 - 1),
        "closed enum": (-(2**31), 2**31 - 1),
        "uint32": (0, 2**32 - 1),
        "int64": (-(2**63), 2**63 - 1),
        "uint64": (0, 2**64 - 1),
    },
    {"sint32": (-(2**31), 2**31 - 1), "sint64": (-(2**63), 2**63 - 1)},
    {"string": (1, 1), "bytes": (0, 1)},
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
    yield from _numbers(messages[0], messages[1], set())


def _numbers(old: Any, new: Any, compared: set[tuple[str, str]]) -> Iterator[str]:
    if (old.full_name, new.full_name) in compared:
        return
    compared.add((old.full_name, new.full_name))  # before its fields, which may be of this message
    for number, field in old.fields_by_number.items():
        other = new.fields_by_number.get(number)
        if other is None:
            continue  # a field that is gone is passed over
        if field.name != other.name:
            yield f"field {number} of `{old.name}` was `{field.name}` and becomes `{other.name}`"
        elif not _holds(field, other) or field.is_repeated != other.is_repeated:
            yield (
                f"field {number}, `{field.name}`, of `{old.name}` has another type: "
                f"not all of {_written(field)} is {_written(other)}"
            )
        elif field.enum_type is not None and other.enum_type is not None:
            yield from _enum_names(field.enum_type, other.enum_type)
        elif field.message_type is not None:
            yield from _numbers(field.message_type, other.message_type, compared)


def _holds(old: Any, new: Any) -> bool:
    """Whether every value of the old field is the same value of the new one."""
    one, other = _type_name(old), _type_name(new)
    if one == other:
        return True
    if other == "closed enum":
        return False
    group = next((each for each in _GROUPS if one in each and other in each), None)
    return group is not None and group[other][0] <= group[one][0] and group[one][1] <= group[other][1]


def _enum_names(old: Any, new: Any) -> Iterator[str]:
    names = {each.number: each.name for each in new.values}
    for number, name in {each.number: each.name for each in old.values}.items():
        if names.get(number) != name:
            becomes = f"becomes `{names[number]}`" if number in names else "is gone"
            yield f"number {number} of the enum `{old.name}` was `{name}` and {becomes}"


def _written(field: Any) -> str:
    return f"{'repeated ' if field.is_repeated else ''}{_type_name(field)}"


def _type_name(field: Any) -> str:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    if field.enum_type is not None and field.enum_type.is_closed:
        return "closed enum"
    return str(FieldDescriptorProto.Type.Name(field.type)).removeprefix("TYPE_").lower()
