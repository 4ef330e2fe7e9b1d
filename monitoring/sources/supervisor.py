"""The supervisor's streams and their newest events."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from headgate.streams.model import Event, StreamStatus
from monitoring.readings import Supervised
from monitoring.watch import Reading

__all__ = ["SupervisorReader"]

KEEP_EVENTS = 20


class _Client(Protocol):
    def health(self) -> dict[str, Any]: ...
    def streams(self) -> list[StreamStatus]: ...
    def events(self, stream: str, after: int = 0, limit: int = 200) -> list[Event]: ...


class SupervisorReader:
    """Follows each stream's event log: a round asks only for what is new."""

    def __init__(self, client: _Client, *, events: bool = True) -> None:
        self._client = client
        self._follows = events
        self._events: dict[str, deque[Event]] = {}

    def read(self) -> Reading[Supervised]:
        health = self._client.health()
        streams = {status.stream: status for status in self._client.streams()}
        for gone in self._events.keys() - streams.keys():
            del self._events[gone]
        events = {name: self._follow(name) for name in streams} if self._follows else {}
        return Reading(Supervised(streams, events, health.get("last_round_at")))

    def _follow(self, stream: str) -> tuple[Event, ...]:
        """Newest first. What a round does not get (more than a page of events), the next one does."""
        kept = self._events.setdefault(stream, deque(maxlen=KEEP_EVENTS))
        kept.extend(self._client.events(stream, after=kept[-1].id if kept else -1, limit=KEEP_EVENTS))
        return tuple(reversed(kept))
