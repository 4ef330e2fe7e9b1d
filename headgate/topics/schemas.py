"""Schemas in Spark's JSON form: what is compared, what is portable, how types are shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["QUARANTINE_SCHEMA", "columns", "nullable_schema", "type_text", "unportable_types"]


def field_of(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True, "metadata": {}}


# Spark's JSON form of a StructType. The record query writes it; `audit` and replay read it.
QUARANTINE_SCHEMA: Mapping[str, Any] = {
    "type": "struct",
    "fields": [
        field_of("topic", "string"),
        field_of("partition", "integer"),
        field_of("offset", "long"),
        field_of("timestamp", "timestamp"),
        field_of("key", "binary"),
        field_of("value", "binary"),
        field_of("source", "string"),
        field_of("stage", "string"),
        field_of("rules", {"type": "array", "elementType": "string", "containsNull": True}),
        field_of("contract_version", "integer"),
        field_of("contract_hash", "string"),
        field_of("generation", "long"),
        field_of("epoch", "long"),
        field_of("batch_id", "long"),
        field_of("lineage", "string"),
        field_of("quarantined_at", "timestamp"),
    ],
}

_PORTABLE = frozenset(
    (
        "string",
        "boolean",
        "byte",
        "short",
        "integer",
        "long",
        "float",
        "double",
        "date",
        "timestamp",
        "binary",
    )
)
_DECIMAL = re.compile(r"^decimal\(\d{1,2},\d{1,2}\)$")


def nullable_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with every field nullable and without metadata, such as Spark's watermark marks."""
    fields = [field_of(each["name"], _nullable_type(each["type"])) for each in schema["fields"]]
    return {"type": "struct", "fields": fields}


def _nullable_type(kind: Any) -> Any:
    if not isinstance(kind, Mapping):
        return kind
    if kind["type"] == "struct":
        return nullable_schema(kind)
    if kind["type"] == "array":
        return {"type": "array", "elementType": _nullable_type(kind["elementType"]), "containsNull": True}
    if kind["type"] == "map":
        return {
            "type": "map",
            "keyType": _nullable_type(kind["keyType"]),
            "valueType": _nullable_type(kind["valueType"]),
            "valueContainsNull": True,
        }
    return dict(kind)


def unportable_types(kind: Any) -> Iterable[str]:
    if isinstance(kind, str):
        if kind not in _PORTABLE and not _DECIMAL.match(kind):
            yield kind
    elif kind.get("type") == "struct":
        for each in kind["fields"]:
            yield from unportable_types(each["type"])
    elif kind.get("type") == "array":
        yield from unportable_types(kind["elementType"])
    elif kind.get("type") == "map":
        yield from unportable_types(kind["keyType"])
        yield from unportable_types(kind["valueType"])
    else:
        yield str(kind.get("type"))


def columns(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {each["name"]: each["type"] for each in schema["fields"]}


def type_text(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    if kind["type"] == "struct":
        inner = ",".join(f"{each['name']}:{type_text(each['type'])}" for each in kind["fields"])
        return f"struct<{inner}>"
    if kind["type"] == "array":
        return f"array<{type_text(kind['elementType'])}>"
    if kind["type"] == "map":
        return f"map<{type_text(kind['keyType'])},{type_text(kind['valueType'])}>"
    return str(kind["type"])
