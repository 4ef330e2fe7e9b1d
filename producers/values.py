"""Made-up values for the columns of a JSON contract: typed, plausible, and never far from each other."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from headgate.contract.model import Column
from producers.datetimes import JavaPattern, from_micros, micros_of, zone_of

__all__ = ["column_values", "written_time"]

LOWEST, HIGHEST, START = 0, 100, 10
_WORDS = ("alpha", "bravo", "charlie", "delta", "echo")
_SPLIT = re.compile(r"^(array|map|struct)<(.*)>$")

Make = Callable[[datetime], Any]


def column_values(column: Column, chance: random.Random) -> Make:
    """What makes the column's next value at a moment: times are the moment, numbers walk at random."""
    if column.type in {"timestamp", "date"}:
        return lambda now: written_time(column, now)
    return _make(column.type, chance)


def written_time(column: Column | None, now: datetime) -> Any:
    """The moment as the column writes times; `2023-10-01 12:00:00` where it says nothing."""
    if column is not None and column.format in {"epoch_seconds", "epoch_millis"}:
        return micros_of(now) // (1_000_000 if column.format == "epoch_seconds" else 1_000)
    zone = zone_of(column.zone if column is not None else None)
    if column is not None and column.format:
        return JavaPattern(column.format, zone=zone).write(micros_of(now), "")
    local = from_micros(micros_of(now), zone)
    return local.strftime("%Y-%m-%d" if column is not None and column.type == "date" else "%Y-%m-%d %H:%M:%S")


def _make(type_name: str, chance: random.Random) -> Make:
    nested = _SPLIT.match(type_name)
    if nested is not None:
        return _nested(nested[1], nested[2], chance)
    if type_name in {"int", "long", "float", "double"}:
        return _walk(chance)
    if type_name.startswith("decimal"):
        digits = int(type_name.rstrip(")").rpartition(",")[2])
        walk = _walk(chance)
        return lambda now: f"{walk(now):.{digits}f}"
    others: dict[str, Make] = {
        "boolean": lambda _: chance.random() < 0.5,
        "binary": lambda _: base64.b64encode(chance.randbytes(6)).decode(),
        "timestamp": lambda now: now.strftime("%Y-%m-%d %H:%M:%S"),
        "date": lambda now: now.strftime("%Y-%m-%d"),
    }
    return others.get(type_name.strip(), lambda _: chance.choice(_WORDS))


def _walk(chance: random.Random) -> Make:
    value = START

    def step(_: datetime) -> int:
        nonlocal value
        value = min(max(value + chance.randint(-3, 3), LOWEST), HIGHEST)
        return value

    return step


def _nested(kind: str, inner: str, chance: random.Random) -> Make:
    parts = _top_level(inner)
    if kind == "array":
        element = _make(inner.strip(), chance)
        return lambda now: [element(now) for _ in range(chance.randint(1, 3))]
    if kind == "map":
        value = _make(parts[-1].strip(), chance)
        return lambda now: {word: value(now) for word in _WORDS[:2]}
    fields = [part.strip().partition(":") for part in parts]
    makers = {name.strip(): _make(type_name.strip(), chance) for name, _, type_name in fields}
    return lambda now: {name: make(now) for name, make in makers.items()}


def _top_level(text: str) -> list[str]:
    """Split at commas that are inside no brackets."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "<(") - (character in ">)")
        if character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]
