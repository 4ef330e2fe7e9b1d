"""Which faults happen when: a pure function of the seed.

Kinds are dealt like cards: none comes again before every other has come once, and so it is with the
failpoints, so that a few dozen seeds have seen each kind at each place.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

__all__ = ["Fault", "Kind", "has_reserve", "make_plan"]

T = TypeVar("T")


class Kind(StrEnum):
    KILL_DRIVER = "kill driver"
    FREEZE_DRIVER = "freeze driver"
    KILL_AT_FAILPOINT = "kill at failpoint"
    RESTART_BROKER = "restart broker"
    RESTART_REDIS = "restart redis"
    KILL_SUPERVISOR = "kill supervisor"
    DISK_FULL = "disk full"
    DAMAGE_OFFSETS = "damage offsets"


# Failpoints are many: half of all faults are theirs.
_DECK = (*Kind, Kind.KILL_AT_FAILPOINT, Kind.KILL_AT_FAILPOINT, Kind.KILL_DRIVER)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: how long after the last recovery, how long the thing is away, and where a driver dies."""

    number: int
    kind: Kind
    after: float
    away: float
    failpoint: str | None = None
    hit: int = 1

    @property
    def text(self) -> str:
        return f"{self.kind}: {self.failpoint}" if self.failpoint else str(self.kind)


def has_reserve(seed: int) -> bool:
    """Whether a driver waits in reserve, as in every second seed: a stream starts in other ways with one."""
    return seed % 2 == 0


def make_plan(seed: int, kills: int, failpoints: Sequence[str]) -> tuple[Fault, ...]:
    """The faults of a seed, in order. `failpoints` are the boundaries that the pipeline has."""
    chance = random.Random(seed)
    kinds = _dealt(chance, _DECK if failpoints else [kind for kind in Kind if not _at_failpoint(kind)])
    places = _dealt(chance, failpoints)
    return tuple(_fault(chance, number, next(kinds), places) for number in range(1, kills + 1))


def _at_failpoint(kind: Kind) -> bool:
    return kind is Kind.KILL_AT_FAILPOINT


def _fault(chance: random.Random, number: int, kind: Kind, places: Iterator[str]) -> Fault:
    after, away = round(chance.uniform(0.1, 2.0), 2), round(chance.uniform(0.5, 4.0), 2)
    hit = chance.choice((1, 1, 1, 2, 3))
    place = next(places) if _at_failpoint(kind) else None
    return Fault(number, kind, after, away, place, hit if place else 1)


def _dealt(chance: random.Random, cards: Sequence[T]) -> Iterator[T]:
    while cards:
        pack = list(cards)
        chance.shuffle(pack)
        yield from pack
