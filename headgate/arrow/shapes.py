"""JSON as a regular expression of RE2: values that are one object each, and of the contract's types.

A parser that reads more than JSON, or several objects, reads no more than one object of JSON in what is
matched. Lone surrogates are not matched, nor objects below some depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

__all__ = ["typed_object"]

_SPACE = r"[ \t\r\n]*"
_ESCAPE = (
    r'\\(?:["\\/bfnrt]'
    r"|u(?:[0-9a-cA-CeEfF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}"
    r"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))"
)
_STRING = rf'"(?:[^"\\\x00-\x1f]|{_ESCAPE})*"'
_NUMBER = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
# With a power of ten that a double has: a larger one may have it, too, and is left.
_DOUBLE = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE](?:\+?[0-9]{1,2}|-[0-9]{1,3}))?"
_SCALAR = rf"(?:{_STRING}|{_NUMBER}|true|false|null)"
_WORD = rf"{_SCALAR}|[\[\]:, \t\r\n]"
_DEPTH = 5
# The signs of a name that has no escapes.
_SIGN = r'[^"\\\x00-\x1f]'


def typed_object(schema: pa.Schema) -> str:
    """An object in which the schema's names have values of its types, or null. Other names have any value;
    a name with an escape is not matched, for it might stand for one of the schema's."""
    pairs = [_pair(f'"{field.name}"', rf"(?:{_typed(field.type)}|null)") for field in schema]
    pairs.append(_pair(f'"{_other_than([field.name for field in schema])}"', _any_value()))
    pair = f"(?:{'|'.join(pairs)})"
    return rf"\A{_SPACE}{_object(pair)}{_SPACE}\z"


def _any_value() -> str:
    """Any value, down to some depth of objects. Of what is inside only the words are looked at, and that
    braces come in pairs, which says where the object ends: whether they make sense is the parser's to say."""
    inside = rf"(?:{_WORD})*"
    for _ in range(_DEPTH):
        inside = rf"(?:{_WORD}|\{{{inside}\}})*"
    return rf"(?:{_SCALAR}|\[{inside}\]|\{{{inside}\}})"


def _typed(kind: pa.DataType) -> str:
    if pa.types.is_string(kind):
        return _STRING
    if pa.types.is_boolean(kind):
        return "true|false"
    if pa.types.is_integer(kind):
        return f"-?(?:{_at_most(str(2 ** (kind.bit_width - 1) - 1))})"
    return _DOUBLE


def _at_most(largest: str) -> str:
    """Whole numbers up to this one, without leading zeros."""
    shorter = ["0", rf"[1-9][0-9]{{0,{len(largest) - 2}}}"]
    for place, digit in enumerate(largest):
        low = 1 if place == 0 else 0
        if int(digit) > low:
            rest = len(largest) - place - 1
            shorter.append(rf"{largest[:place]}[{low}-{int(digit) - 1}][0-9]{{{rest}}}")
    return "|".join([*shorter, largest])


def _other_than(names: Sequence[str]) -> str:
    """Any name but these."""
    if not names:
        return f"{_SIGN}*"
    branches = [] if "" in names else [""]
    heads = sorted({name[0] for name in names if name})
    for head in heads:
        branches.append(head + _other_than([name[1:] for name in names if name[:1] == head]))
    branches.append(_SIGN.replace("[^", f"[^{''.join(heads)}") + f"{_SIGN}*")
    return f"(?:{'|'.join(branches)})"


def _pair(name: str, value: str) -> str:
    return f"{name}{_SPACE}:{_SPACE}{value}"


def _listed(item: str) -> str:
    return f"{item}(?:{_SPACE},{_SPACE}{item})*{_SPACE}"


def _object(pair: str) -> str:
    return rf"\{{{_SPACE}(?:{_listed(pair)})?\}}"
