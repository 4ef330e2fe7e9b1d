"""What differs between two contracts, one phrase for each key. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headgate.contract.model import Contract

__all__ = ["changed_keys"]

_LONG = 40  # signs of a value that is still shown


def changed_keys(old: Contract, new: Contract) -> list[str]:
    """In the order of the new contract, what is gone at the end: `job.trigger: 2 seconds → 1 second`."""
    before, after = (dict(_leaves(each.model_dump(mode="json", by_alias=True), ())) for each in (old, new))
    found: dict[str, None] = {}
    for path, value in after.items():
        if path not in before:
            found[f"{_name(_outermost(path, before))} is new"] = None
        elif before[path] != value:
            found[_change(path, before[path], value)] = None
    for path in before:
        if path not in after:
            found[f"{_name(_outermost(path, after))} is gone"] = None
    return list(found)


Path = tuple[str, ...]


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every value that has no keys of its own. What has a name stands under it, wherever it is in its list;
    a key without a value is one that is not there."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif (
        isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value)
    ):
        for each in value:
            yield from _leaves(each, (*path, str(each["name"])))
    elif value is not None and value not in ([], ()):
        yield path, value


def _outermost(path: Path, other: dict[Path, Any]) -> Path:
    """The shortest beginning of a path of which the other contract has nothing."""
    for length in range(1, len(path)):
        if not any(each[:length] == path[:length] for each in other):
            return path[:length]
    return path


def _change(path: Path, before: Any, after: Any) -> str:
    short = all(isinstance(each, str | int | float) and len(str(each)) <= _LONG for each in (before, after))
    return f"{_name(path)}: {before} → {after}" if short else f"{_name(path)} differs"


def _name(path: Path) -> str:
    return ".".join(path)
