"""What is measured of a fault, and what of all faults is the slowest. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from headgate.streams.model import Event

__all__ = ["Found", "Outcome", "first_at", "slowest"]


@dataclass(frozen=True, slots=True)
class Found:
    """What one kind of fault has measured by itself; all of it is told in its outcome."""

    seen: float | None = None
    note: str = ""
    adopted: float | None = None
    sigkill: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """One fault: seconds from the start of the run, then from the fault. `seen` is None where nobody is to
    notice: a service that is away for a moment is ridden out. `adopted` counts from the start of the new
    supervisor, where the old one was killed. `sigkill`: it was the driver that was killed. `reserve`: the
    driver that went on had waited in reserve."""

    fault: str
    at: float
    seen: float | None
    recovered: float
    note: str = ""
    adopted: float | None = None
    sigkill: bool = False
    reserve: bool = False

    def noting(self, more: str) -> Outcome:
        return replace(self, note="; ".join(filter(None, (self.note, more))))


def first_at(events: Iterable[Event], after: float, wanted: Callable[[Event], bool]) -> float | None:
    """The moment of the first such event after a moment, None while there is none."""
    return min((each.at for each in events if each.at >= after and wanted(each)), default=None)


def slowest(faults: Iterable[Outcome]) -> dict[str, float | None]:
    """The greatest of what a supervisor has to be quick at: None where no fault was of that kind."""
    known = list(faults)
    kills = [each.seen for each in known if each.sigkill and each.seen is not None]
    adoptions = [each.adopted for each in known if each.adopted is not None]
    return {"kill_seen": max(kills, default=None), "adopted": max(adoptions, default=None)}
