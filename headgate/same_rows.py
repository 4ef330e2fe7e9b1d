"""Compares rows as sets with repetitions: floating-point numbers to 1e-9 relative, all else exactly. Pure."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

__all__ = ["difference", "same_rows"]

RELATIVE = 1e-9
_ROUNDING = 1e-12  # sums of a few numbers around zero have no relative exactness

Row = Mapping[str, Any]


def difference(found: Iterable[Row], expected: Iterable[Row]) -> str:
    """What differs, in words; "" where nothing does."""
    have, want = _grouped(found), _grouped(expected)
    missing = extra = changed = 0
    example = ""
    for exact in {**have, **want}:
        mine, theirs = sorted(have.get(exact, [])), sorted(want.get(exact, []))
        if len(mine) != len(theirs):
            missing += max(len(theirs) - len(mine), 0)
            extra += max(len(mine) - len(theirs), 0)
        elif not all(map(_close, mine, theirs)):
            changed += 1
        else:
            continue
        example = example or f"such as {exact} with {mine} where {theirs} was expected"[:400]
    if not example:
        return ""
    return f"{missing} rows missing, {extra} too many, {changed} with other numbers, {example}"


def same_rows(found: Iterable[Row], expected: Iterable[Row]) -> bool:
    return difference(found, expected) == ""


def _grouped(rows: Iterable[Row]) -> dict[str, list[tuple[float, ...]]]:
    """Rows by all that is compared exactly, each with its floating-point numbers in the order of columns."""
    groups: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for row in rows:
        numbers: list[float] = []
        exact = {name: _exact(row[name], numbers) for name in sorted(row)}
        groups[json.dumps(exact, default=repr, ensure_ascii=False)].append(tuple(numbers))
    return dict(groups)


def _exact(value: Any, numbers: list[float]) -> Any:
    """A value with its finite floats taken out; the place says that there was one."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return repr(value)
        numbers.append(value)
        return "number"
    if isinstance(value, Mapping):
        return {str(name): _exact(inner, numbers) for name, inner in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_exact(inner, numbers) for inner in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    return value


def _close(mine: Sequence[float], theirs: Sequence[float]) -> bool:
    return all(
        math.isclose(left, right, rel_tol=RELATIVE, abs_tol=_ROUNDING)
        for left, right in zip(mine, theirs, strict=True)
    )
