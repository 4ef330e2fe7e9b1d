"""The pattern of a text source for RE2, which takes the same texts out of a line as Java does.

Both look for the first place where the pattern matches, prefer what is written first, and are greedy or lazy
alike. Where they differ it is over what `\\d`, `.`, `$` and the like stand for, over signs that end a line,
and over repetitions of nothing. So the pattern is taken apart by Python's parser, refused where it has more
than what is listed here, and written anew with its classes in full; and lines with signs that end one are
left to Spark (`headgate.arrow.lines`).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headgate.arrow.kinds import Unsupported
from headgate.contract.text import python_pattern

__all__ = ["Extraction", "extraction"]

sre: Any = importlib.import_module("re._constants")
parser: Any = importlib.import_module("re._parser")

# A class as Python ends it; an escaped sign outside of one is passed over.
_CLASS = re.compile(r"\\.|\[\^?(?P<inside>\]?(?:\\.|[^\]\\])*)\]", re.DOTALL)
_MOST_TIMES = 1_000  # RE2's own limit
_CLASSES: Mapping[Any, str] = {
    sre.CATEGORY_DIGIT: "0-9",
    sre.CATEGORY_WORD: "0-9A-Za-z_",
    sre.CATEGORY_SPACE: r" \t\n\x{0b}\f\r",
}
_OPPOSITES: Mapping[Any, Any] = {
    sre.CATEGORY_NOT_DIGIT: sre.CATEGORY_DIGIT,
    sre.CATEGORY_NOT_WORD: sre.CATEGORY_WORD,
    sre.CATEGORY_NOT_SPACE: sre.CATEGORY_SPACE,
}
_ANCHORS: Mapping[Any, str] = {
    sre.AT_BEGINNING: r"\A",
    sre.AT_BEGINNING_STRING: r"\A",
    sre.AT_END: r"\z",
    sre.AT_END_STRING: r"\z",
    sre.AT_BOUNDARY: r"\b",
    sre.AT_NON_BOUNDARY: r"\B",
}


@dataclass(frozen=True, slots=True)
class Extraction:
    """`groups`: names of the pattern's groups in `re2`, by their names in the contract. `ascii`: only
    lines of ASCII are surely read alike, for what is a word's edge differs elsewhere."""

    re2: str
    groups: Mapping[str, str]
    ascii: bool


def extraction(pattern: str) -> Extraction:
    """Raises Unsupported."""
    _refuse_spellings(pattern)
    tree = parser.parse(python_pattern(pattern))
    if tree.state.flags & ~int(re.UNICODE):
        raise Unsupported("the pattern has flags")
    names = {number: name for name, number in tree.state.groupdict.items()}
    writer = _Writer(names)
    re2 = writer.sequence(tree)
    try:
        pc.extract_regex(pa.array([""]), re2)
    except pa.ArrowInvalid as error:
        raise Unsupported(f"the pattern is too large: {error}") from error
    return Extraction(re2, {name: _named(number) for number, name in names.items()}, writer.ascii)


def _refuse_spellings(pattern: str) -> None:
    """What Java reads otherwise than Python, so that Python's tree does not show it."""
    if re.search(r"\\[0-9]", pattern):
        raise Unsupported("the pattern has a backslash before a digit")
    if re.search(r"\\[bB]\{", pattern):
        raise Unsupported("the pattern has a brace behind `\\b`")
    for part in _CLASS.finditer(pattern):
        signs = re.sub(r"\\.", "", part["inside"] or "", flags=re.DOTALL)
        if "[" in signs or "]" in signs or "&&" in signs:
            raise Unsupported(f"the pattern has a class in which Java may see another one: `{part[0]}`")


def _named(number: int) -> str:
    return f"g{number}"


class _Writer:
    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self.ascii = False
        self._write: Mapping[Any, Callable[[Any], str]] = {
            sre.LITERAL: _sign,
            sre.NOT_LITERAL: lambda code: f"[^{_sign(code)}]",
            sre.ANY: lambda _: r"[^\n]",
            sre.IN: _class,
            sre.BRANCH: lambda told: f"(?:{'|'.join(self.sequence(each) for each in told[1])})",
            sre.SUBPATTERN: self._group,
            sre.MAX_REPEAT: lambda told: self._repeat(told, lazy=""),
            sre.MIN_REPEAT: lambda told: self._repeat(told, lazy="?"),
            sre.AT: self._anchor,
        }

    def sequence(self, items: Iterable[tuple[Any, Any]]) -> str:
        return "".join(self._one(*item) for item in items)

    def _one(self, kind: Any, told: Any) -> str:
        write = self._write.get(kind)
        if write is None:
            raise Unsupported(f"the pattern has a part that only Java reads ({str(kind).lower()})")
        return write(told)

    def _group(self, told: Any) -> str:
        number, add, remove, items = told
        if add or remove:
            raise Unsupported("the pattern has flags")
        name = f"?P<{_named(number)}>" if number in self._names else "?:"
        return f"({name}{self.sequence(items)})"

    def _repeat(self, told: Any, *, lazy: str) -> str:
        low, high, items = told
        most = None if high is sre.MAXREPEAT else int(high)
        if max(low, most or 0) > _MOST_TIMES:
            raise Unsupported(f"the pattern repeats a part more than {_MOST_TIMES} times")
        if most != 1 and (items.getwidth()[0] == 0 or _captures(items)):
            raise Unsupported("the pattern repeats a part that may be empty, or that has a group in it")
        times = f"{{{low}}}" if low == most else f"{{{low},{'' if most is None else most}}}"
        return f"(?:{self.sequence(items)}){times}{lazy}"

    def _anchor(self, told: Any) -> str:
        anchor = _ANCHORS[told]
        self.ascii = self.ascii or anchor in {r"\b", r"\B"}
        return anchor


def _captures(items: Any) -> bool:
    """Whether a group with a number is anywhere in it."""
    for kind, told in items:
        if kind is sre.SUBPATTERN and told[0] is not None:
            return True
        inside = told if isinstance(told, tuple | list) else ()
        parts = [each for part in inside for each in (part if isinstance(part, list) else [part])]
        if any(_captures(part) for part in parts if isinstance(part, parser.SubPattern)):
            return True
    return False


def _class(items: list[tuple[Any, Any]]) -> str:
    negated = items[0][0] is sre.NEGATE
    rest = items[1:] if negated else items
    if len(rest) == 1 and rest[0][1] in _OPPOSITES:
        negated, rest = not negated, [(sre.CATEGORY, _OPPOSITES[rest[0][1]])]
    return f"[{'^' if negated else ''}{''.join(_member(*each) for each in rest)}]"


def _member(kind: Any, told: Any) -> str:
    if kind is sre.LITERAL:
        return _sign(told)
    if kind is sre.RANGE:
        return "-".join(_written(code) for code in told)
    found = _CLASSES.get(told)
    if found is None:
        raise Unsupported("the pattern has a class in a class")
    return found


def _sign(code: int) -> str:
    if code < 0x20 and code != 0x09:
        raise Unsupported("the pattern names a control character")
    return _written(code)


def _written(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        raise Unsupported("the pattern names half a character")
    return chr(code) if chr(code).isalnum() and code < 0x80 else f"\\x{{{code:x}}}"
