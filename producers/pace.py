"""How many records are due: an even pace that does not make up for long interruptions."""

from __future__ import annotations

__all__ = ["Pace"]

# Records of an interruption that are made up for, in seconds of the pace.
CATCH_UP_SECONDS = 1.0
AT_ONCE = 500  # between two looks at acknowledgements and signals


class Pace:
    """`rate` records a second from `start` on; None: as fast as they are taken."""

    def __init__(self, rate: float | None, start: float) -> None:
        self._rate = rate
        self._next = start

    def due(self, now: float) -> int:
        """How many to send now. They count as sent."""
        if self._rate is None:
            return AT_ONCE
        if now < self._next:
            return 0
        self._next = max(self._next, now - CATCH_UP_SECONDS)
        count = min(int((now - self._next) * self._rate) + 1, AT_ONCE)
        self._next += count / self._rate
        return count

    def pause(self, now: float) -> float:
        """Seconds until the next one is due."""
        return 0.0 if self._rate is None else max(self._next - now, 0.0)
