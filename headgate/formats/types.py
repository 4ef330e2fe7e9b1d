"""The types of a contract's columns as a tree: what Spark's type text says, read without Spark."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ColumnType", "arrow_type", "parse_type"]

_SPELLINGS = {"integer": "int", "bigint": "long", "real": "float", "dec": "decimal", "numeric": "decimal"}
_SIMPLE = frozenset({"string", "boolean", "int", "long", "float", "double", "date", "timestamp", "binary"})
_DECIMAL = re.compile(r"decimal(?:\(\s*(\d{1,2})\s*(?:,\s*(\d{1,2})\s*)?\))?$")
_NESTED = re.compile(r"(array|map|struct)\s*<(.*)>$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ColumnType:
    """`name` is a simple type, `decimal`, `array`, `map` or `struct`; `parts` are an array's element, a
    map's key and value, or a struct's fields."""

    name: str
    precision: int = 0
    scale: int = 0
    parts: tuple[tuple[str, ColumnType], ...] = ()

    def __str__(self) -> str:
        if self.name == "decimal":
            return f"decimal({self.precision},{self.scale})"
        if self.name == "struct":
            return f"struct<{','.join(f'{name}:{part}' for name, part in self.parts)}>"
        if self.parts:
            return f"{self.name}<{','.join(str(part) for _, part in self.parts)}>"
        return self.name


def parse_type(text: str) -> ColumnType:
    """Raises ValueError for what no column of these formats can have."""
    word = text.strip()
    simple = _SPELLINGS.get(word.lower(), word.lower())
    if simple in _SIMPLE:
        return ColumnType(simple)
    decimal = _DECIMAL.match(simple)
    if decimal:
        return ColumnType("decimal", int(decimal[1] or 10), int(decimal[2] or 0))
    nested = _NESTED.match(word)
    if nested is None:
        raise ValueError(f"`{word}` is not a type that a column of this format can have")
    return _nested(nested[1], _top_level(nested[2]))


def _nested(kind: str, parts: list[str]) -> ColumnType:
    wanted = {"array": 1, "map": 2}.get(kind)
    if wanted is not None and len(parts) != wanted:
        raise ValueError(f"`{kind}` takes {wanted} types, not {len(parts)}")
    if kind == "array":
        return ColumnType(kind, parts=(("element", parse_type(parts[0])),))
    if kind == "map":
        return ColumnType(kind, parts=(("key", parse_type(parts[0])), ("value", parse_type(parts[1]))))
    fields = []
    for part in parts:
        name, separator, type_text = part.partition(":")
        if not separator:
            raise ValueError(f"`{part.strip()}` is not a field: expected `name:type`")
        fields.append((name.strip(), parse_type(type_text)))
    return ColumnType(kind, parts=tuple(fields))


def _top_level(text: str) -> list[str]:
    """Split at commas that are inside no brackets."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "<(") - (character in ">)")
        if character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def arrow_type(type_: ColumnType) -> pa.DataType:
    """The type under which Spark takes such a column from Arrow."""
    import pyarrow as pa

    if type_.name == "decimal":
        return pa.decimal128(type_.precision, type_.scale)
    if type_.name == "array":
        return pa.list_(arrow_type(type_.parts[0][1]))
    if type_.name == "map":
        return pa.map_(arrow_type(type_.parts[0][1]), arrow_type(type_.parts[1][1]))
    if type_.name == "struct":
        return pa.struct([pa.field(name, arrow_type(part)) for name, part in type_.parts])
    simple: dict[str, pa.DataType] = {
        "string": pa.string(),
        "boolean": pa.bool_(),
        "int": pa.int32(),
        "long": pa.int64(),
        "float": pa.float32(),
        "double": pa.float64(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "binary": pa.binary(),
    }
    return simple[type_.name]
