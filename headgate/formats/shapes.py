"""What the values of a schema look like, the same for Avro and Protobuf, and how they are got at.

A shape is made from a schema; a column of the contract is converted from a shape
(`headgate.formats.convert`). The values behind them are plain: a day is a number, so is a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Boolean",
    "Choice",
    "Day",
    "Field",
    "Fraction",
    "ListOf",
    "MapOf",
    "Moment",
    "OneOf",
    "Other",
    "Raw",
    "Real",
    "Record",
    "SchemaProblem",
    "Shape",
    "Text",
    "Whole",
    "describe",
]


class SchemaProblem(ValueError):
    """A schema that cannot be used, and where in its text, from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1, expected: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Boolean:
    pass


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between the two, as its type has them."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Real:
    bits: int


@dataclass(frozen=True, slots=True)
class Text:
    pass


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes; of a fixed number where `size` says so. `uuid`: they are one."""

    size: int | None = None
    uuid: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A name out of some. Protobuf hands over numbers: `names` has the name of each."""

    names: Mapping[int, str] = field(hash=False)
    numbered: bool = False


@dataclass(frozen=True, slots=True)
class Fraction:
    """A decimal number as the bytes of its digits, big-endian; of a fixed number where `size` says so."""

    precision: int
    scale: int
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Day:
    """Days since 1970-01-01."""


@dataclass(frozen=True, slots=True)
class Moment:
    """So many units since 1970, `per_second` of them; without a zone it is what a clock on the wall says."""

    per_second: int
    zoned: bool


@dataclass(frozen=True, slots=True)
class ListOf:
    item: Shape


@dataclass(frozen=True, slots=True)
class MapOf:
    key: Shape
    value: Shape


@dataclass(frozen=True, slots=True)
class OneOf:
    """Several shapes beside null, told apart by their Python type."""

    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `get` takes it from a record's value, None where it is absent or null.

    A field of another version of the schema is the same field if it has the same `number` (Protobuf),
    or the same name or one of the `aliases` (Avro). `default` is what a record without it has.
    """

    name: str
    shape: Shape
    get: Callable[[Any], Any] = field(compare=False)
    number: int | None = None
    aliases: tuple[str, ...] = ()
    has_default: bool = False
    default: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field | None:
        return next((each for each in self.fields if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Other:
    """What no column can be made from, and why."""

    why: str


Shape = (
    Boolean
    | Whole
    | Real
    | Text
    | Raw
    | Choice
    | Fraction
    | Day
    | Moment
    | ListOf
    | MapOf
    | OneOf
    | Record
    | Other
)


def describe(shape: Shape) -> str:
    """The shape in words, for errors."""
    return _WORDS[type(shape)](shape)


_WORDS: Mapping[type, Callable[[Any], str]] = {
    Boolean: lambda _: "a boolean",
    Whole: lambda shape: f"a whole number of {(shape.high - shape.low).bit_length()} bits",
    Real: lambda shape: f"a floating-point number of {shape.bits} bits",
    Text: lambda _: "text",
    Raw: lambda shape: "a UUID" if shape.uuid else "bytes",
    Choice: lambda _: "a name out of an enum",
    Fraction: lambda shape: f"a decimal({shape.precision},{shape.scale})",
    Day: lambda _: "a date",
    Moment: lambda shape: "a moment" if shape.zoned else "a time without a zone",
    ListOf: lambda shape: f"a list of {describe(shape.item)}",
    MapOf: lambda shape: f"a map from {describe(shape.key)} to {describe(shape.value)}",
    OneOf: lambda shape: "one of " + ", ".join(describe(each) for each in shape.shapes),
    Record: lambda shape: f"a record `{shape.name}`",
    Other: lambda shape: shape.why,
}
