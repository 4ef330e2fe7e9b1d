"""The range that a replay reads: what was asked for, and whether all of it is there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from headgate.errors import UsageError

__all__ = ["PartitionRange", "Place", "cut", "parse_from", "parse_to"]

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Place:
    """`earliest`, `now`, `timestamp` with its text, or `offsets` with the name of a file."""

    kind: str
    value: str = ""

    @property
    def told(self) -> str:
        return f"{self.kind} {self.value}".strip()


@dataclass(frozen=True, slots=True)
class PartitionRange:
    """Records `first` to `last` - 1 of a partition that has `low` to `end` - 1 now."""

    topic: str
    partition: int
    first: int
    last: int
    low: int
    end: int

    @property
    def records(self) -> int:
        return self.last - self.first

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "records": self.records}


def parse_from(text: str) -> Place:
    return _parse(text, "--from", "earliest")


def parse_to(text: str) -> Place:
    return _parse(text, "--to", "now")


def _parse(text: str, option: str, word: str) -> Place:
    kind, equals, value = text.partition("=")
    if text == word:
        return Place(word)
    if kind in ("timestamp", "offsets") and equals and value:
        return Place(kind, value)
    raise UsageError(
        f"`{option} {text}` says no place in a topic",
        expected=f"{word}, timestamp=2026-01-31T06:00:00Z, or offsets=FILE",
    )


def cut(
    begin: Mapping[Partition, int],
    end: Mapping[Partition, int],
    lows: Mapping[Partition, int],
    ends: Mapping[Partition, int],
) -> tuple[list[PartitionRange], list[str]]:
    """The range of each partition that there is, and what is wrong with it."""
    found, problems = [], []
    for key in sorted({*begin, *end} - {*ends}):
        problems.append(f"topic {key[0]}, partition {key[1]}: the pipeline reads no such partition")
    for key, newest in sorted(ends.items()):
        where = f"topic {key[0]}, partition {key[1]}"
        if key not in begin or key not in end:
            problems.append(f"{where}: no offset is given for it")
            continue
        first, last, low = begin[key], end[key], lows[key]
        if first < low and first < last:
            problems.append(
                f"{where}: the records {first} to {min(last, low) - 1} are gone, retention took them; "
                f"the first one that is there has offset {low}"
            )
        if last > newest:
            problems.append(f"{where}: offset {last} is not there yet, the topic ends at {newest}")
        if first > last:
            problems.append(f"{where}: the range ends at {last}, before it begins at {first}")
        found.append(PartitionRange(key[0], key[1], first, last, low, newest))
    if not problems and not any(each.records for each in found):
        problems.append("there is no record in this range")
    return found, problems
