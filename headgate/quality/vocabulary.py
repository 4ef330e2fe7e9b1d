"""Checks a contract's expectations at plan time: names, arguments and columns, each error in its place.

What Great Expectations knows is in `expectations.json`, made by `headgate.quality.generate`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from headgate.contract.frozen import FrozenContract
from headgate.contract.loader import LoadedContract
from headgate.contract.model import Expectation
from headgate.errors import Problem
from headgate.suggest import closest, did_you_mean

__all__ = ["column_problems", "expectation_problems"]

_COLUMN_KEYS = ("column", "column_A", "column_B", "column_list")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "array": (list, tuple),
    "object": (dict,),
}


@cache
def _known() -> Mapping[str, Any]:
    text = resources.files("headgate.quality").joinpath("expectations.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found


def expectation_problems(loaded: Sequence[LoadedContract]) -> list[Problem]:
    """Unknown expectations, and arguments that Great Expectations would not take."""
    return [
        item.document.problem(("quality", "expectations", index, *at), **told)
        for item in loaded
        for index, expectation in enumerate(
            item.contract.quality.expectations if item.contract.quality else ()
        )
        for at, told in _wrong(expectation)
    ]


def column_problems(loaded: Sequence[LoadedContract], frozen: Sequence[FrozenContract]) -> list[Problem]:
    """Columns that an expectation names and its output does not have. Both in the same order."""
    problems: list[Problem] = []
    for item, contract in zip(loaded, frozen, strict=True):
        quality = item.contract.quality
        for index, expectation in enumerate(quality.expectations if quality is not None else ()):
            known = list(contract.outputs[expectation.output].columns)
            problems += [
                item.document.problem(
                    ("quality", "expectations", index, key),
                    f"output `{expectation.output}` has no column `{name}`",
                    expected=f"one of {', '.join(known)}",
                    help=did_you_mean(name, known),
                )
                for key, name in _named_columns(expectation.arguments)
                if name not in known
            ]
    return problems


def _named_columns(arguments: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key in _COLUMN_KEYS:
        value = arguments.get(key)
        for name in value if isinstance(value, list | tuple) else [value]:
            if isinstance(name, str):
                yield key, name


_Told = tuple[tuple[str, ...], dict[str, Any]]


def _wrong(expectation: Expectation) -> Iterable[_Told]:
    name, arguments = expectation.expect, expectation.arguments
    known = _known()
    if name not in known:
        yield (
            ("expect",),
            {
                "message": f"`{name}` is not an expectation that can be checked on a table",
                "expected": "a name from https://greatexpectations.io/expectations that needs no database",
                "help": did_you_mean(name, list(known)),
            },
        )
        return
    shapes = known[name]["arguments"]
    unknown = [key for key in arguments if key not in shapes]
    for key in unknown:
        yield (
            (key,),
            {
                "message": f"`{name}` takes no `{key}`",
                "expected": f"some of {', '.join(shapes)}",
                "help": did_you_mean(key, list(shapes)),
                "on_key": True,
            },
        )
    required = known[name]["required"]
    for key, value in arguments.items():
        if key in shapes and not (_fits(value, shapes[key]) and (value is not None or key not in required)):
            yield (key,), {"message": f"`{key}` of `{name}` does not fit", "expected": _text(shapes[key])}
    yield from _missing(name, arguments, unknown)


def _missing(name: str, arguments: Mapping[str, Any], unknown: Sequence[str]) -> Iterable[_Told]:
    """What is not said; a misspelt argument is not told twice."""
    needed = [key for key in _known()[name]["required"] if key not in arguments]
    for key in needed:
        if closest(key, unknown) is None:
            yield (), {"message": f"`{name}` needs `{key}`"}
    one_of = _known()[name]["one_of"]
    if one_of and not unknown and all(arguments.get(key) is None for key in one_of):
        yield (), {"message": f"`{name}` needs {' or '.join(f'`{key}`' for key in one_of)}"}


def _fits(value: Any, shape: Mapping[str, Any]) -> bool:
    if "any" in shape:
        return value is None or any(_fits(value, each) for each in shape["any"])
    kind = shape.get("type")
    if kind is None or value is None:
        return True
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    return _within(value, shape) and _inside(value, shape)


def _within(value: Any, shape: Mapping[str, Any]) -> bool:
    if "enum" in shape and value not in shape["enum"]:
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(shape.get("minimum", value) <= value <= shape.get("maximum", value))
    if isinstance(value, str):
        return len(value) >= shape.get("minLength", 0) and ("format" not in shape or _is_moment(value))
    if isinstance(value, list | tuple):
        return bool(shape.get("minItems", 0) <= len(value) <= shape.get("maxItems", len(value)))
    return True


def _inside(value: Any, shape: Mapping[str, Any]) -> bool:
    if isinstance(value, list | tuple) and "items" in shape:
        return all(_fits(each, shape["items"]) for each in value)
    if isinstance(value, dict) and "keys" in shape:
        return all(key in shape["keys"] and _fits(each, shape["keys"][key]) for key, each in value.items())
    return True


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _text(shape: Mapping[str, Any]) -> str:
    """A shape in words: `a number from 0 to 1`, `a list of text`."""
    if "any" in shape:
        return " or ".join(dict.fromkeys(_text(each) for each in shape["any"]))
    if "enum" in shape:
        return "one of " + ", ".join(map(str, shape["enum"]))
    if "format" in shape:
        return "a moment such as 2026-01-31T00:00:00Z"
    if shape.get("type") == "array":
        return "a list" + (f" of {_text(shape['items'])}" if "items" in shape else "")
    words = {"string": "text", "boolean": "true or false", "integer": "a whole number", "number": "a number"}
    limits = [
        f"{word} {shape[key]:g}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in shape
    ]
    return " ".join([words.get(str(shape.get("type")), "a mapping"), *limits])
