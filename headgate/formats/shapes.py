"""What the values of a schema look like, the same for Avro and Protobuf, and how they are got at.

A shape is made from a schema; a column of the contract is converted from a shape
(`headgate.formats.convert`). The values behind them are plain: a day is a number, so is a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from headgate.errors import HeadgateError

__all__ = [
    "Boolean",
    "Choice",
    "Day",
    "Extent",
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
    "taking_apart",
]

# A contract has some hundreds of columns. More than this a few kilobytes of text can stand for, when each
# record has the one before it twice; deeper than this no record is read without running out of stack.
MOST_SHAPES = 20_000
DEEPEST = 64


class SchemaProblem(ValueError):
    """A schema that cannot be used, and where in its text, from 1."""

    def __init__(self, message: str, line: int = 1, column: int = 1, expected: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.expected = expected


@contextmanager
def taking_apart() -> Iterator[None]:
    """A schema is taken apart as its writer put it together, and a registry keeps what it is given: whatever
    that raises is a problem with the schema. Raises SchemaProblem."""
    try:
        yield
    except (SchemaProblem, HeadgateError, OSError, MemoryError):  # those of the machine and its services pass
        raise
    except RecursionError as error:
        raise SchemaProblem("the schema is nested too deeply to be read") from error
    except Exception as error:
        raise SchemaProblem(f"the schema cannot be read: {type(error).__name__}: {error}") from error


@dataclass(slots=True)
class Extent:
    """How much one schema has turned out to stand for. Raises SchemaProblem for more than can be read."""

    shapes: int = 0
    depth: int = 0
    choices: dict[str, Choice] = field(default_factory=dict)

    def enter(self) -> None:
        self.count()
        self.depth += 1
        if self.depth > DEEPEST:
            raise SchemaProblem(
                f"the schema is nested more than {DEEPEST} deep", expected=f"at most {DEEPEST} levels"
            )

    def leave(self) -> None:
        self.depth -= 1

    def count(self) -> None:
        self.shapes += 1
        if self.shapes > MOST_SHAPES:
            raise SchemaProblem(
                f"the schema stands for more than {MOST_SHAPES:,} fields, those of records in it counted at "
                "each use",
                expected=f"at most {MOST_SHAPES:,}",
            )

    def choice(self, name: str, names: Callable[[], Mapping[int, str]], numbered: bool = False) -> Choice:
        """An enum's names are listed once, wherever it is used."""
        if name not in self.choices:
            self.choices[name] = Choice(names(), numbered)
        return self.choices[name]


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
