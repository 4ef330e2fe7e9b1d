"""Lines that fit a contract's pattern."""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from headgate.contract.text import python_pattern

__all__ = ["Sampler"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_- "
_CATEGORIES = {
    "CATEGORY_DIGIT": "0123456789",
    "CATEGORY_WORD": "abcdefghijklmnopqrstuvwxyz_0123456789",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_DIGIT": "abc ",
    "CATEGORY_NOT_WORD": " -",
    "CATEGORY_NOT_SPACE": "abc019",
}
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")
_MOST = 8  # of an unbounded repetition


class Sampler:
    """Makes texts that a pattern matches; named groups in `fixed` get their given text."""

    def __init__(self, pattern: str, fixed: Mapping[str, str]) -> None:
        names, self._tree = _parsed(pattern)
        self._fixed = {number: fixed[name] for name, number in names.items() if name in fixed}

    def sample(self, chance: random.Random) -> str:
        return self._of(self._tree, chance)

    def _of(self, tree: Any, chance: random.Random) -> str:
        return "".join(self._part(str(code), value, chance) for code, value in tree)

    def _part(self, code: str, value: Any, chance: random.Random) -> str:
        if code == "SUBPATTERN":
            return self._fixed.get(value[0]) or self._of(value[-1], chance)
        if code == "BRANCH":
            return self._of(chance.choice(value[1]), chance)
        if code in _REPEATS:
            least, most, inner = value
            times = chance.randint(least, max(least, min(int(most), least + _MOST)))
            return "".join(self._of(inner, chance) for _ in range(times))
        return _sign(code, value, chance)


@lru_cache(maxsize=16)
def _parsed(pattern: str) -> tuple[Mapping[str, int], Any]:
    """By the standard library's own parser: a second one would read some pattern differently."""
    text = python_pattern(pattern)
    return re.compile(text).groupindex, importlib.import_module("re._parser").parse(text)


def _sign(code: str, value: Any, chance: random.Random) -> str:
    """One sign, or what takes no room: a word's edge needs a space, a look around is left to luck."""
    match code:
        case "LITERAL":
            return chr(value)
        case "ANY":
            return chance.choice(_LETTERS)
        case "NOT_LITERAL":
            return _one_of([("NEGATE", None), ("LITERAL", value)], chance)
        case "IN":
            return _one_of(value, chance)
        case "AT" if str(value) == "AT_BOUNDARY":
            return " "
        case _:
            return ""


def _one_of(choices: Any, chance: random.Random) -> str:
    named = [each for each in choices if str(each[0]) != "NEGATE"]
    if len(named) < len(choices):
        outside = [sign for sign in _LETTERS if not any(_holds(one, sign) for one in named)]
        return chance.choice(outside or ["~"])
    code, value = chance.choice(named)
    match str(code):
        case "RANGE":
            return chr(chance.randint(value[0], value[1]))
        case "CATEGORY":
            return chance.choice(_CATEGORIES.get(str(value), "a"))
        case _:
            return chr(value)


def _holds(choice: Any, sign: str) -> bool:
    """Whether one part of a set in brackets holds a sign."""
    code, value = choice
    match str(code):
        case "RANGE":
            return bool(value[0] <= ord(sign) <= value[1])
        case "CATEGORY":
            return sign in _CATEGORIES.get(str(value), "")
        case _:
            return bool(ord(sign) == value)
