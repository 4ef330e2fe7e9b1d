"""JSON in which a number stays the number that is written: what no float is exactly is a Decimal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

__all__ = ["dumps", "loads", "number"]


def number(text: str) -> float | Decimal:
    """A float where its shortest text says the same number, as it does for most; else a Decimal.

    Raises ValueError for an exponent that neither has.
    """
    nearest = float(text)
    try:
        exact = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{text[:60]} has too large an exponent") from error
    return nearest if Decimal(repr(nearest)) == exact else exact


def loads(text: str | bytes) -> Any:
    """As json.loads(), and raising what it raises."""
    return json.loads(text, parse_float=number)


def dumps(value: Any, *, ensure_ascii: bool = False) -> str:
    """The way back; json.dumps() has no words for a Decimal."""
    try:
        return json.dumps(value, ensure_ascii=ensure_ascii)
    except TypeError:
        return _written(value, ensure_ascii)


def _written(value: Any, ensure_ascii: bool) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        pairs = (
            f"{json.dumps(key, ensure_ascii=ensure_ascii)}: {_written(each, ensure_ascii)}"
            for key, each in value.items()
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_written(each, ensure_ascii) for each in value) + "]"
    return json.dumps(value, ensure_ascii=ensure_ascii)
