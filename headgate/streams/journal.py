"""One JSON object per line on stdout: what the supervisor does, for people and log collectors."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import IO, Any

from headgate.streams.model import Event, Phase

__all__ = ["Journal"]


class Journal:
    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._lock = threading.Lock()

    def write(self, event: str, *, level: str = "info", **fields: Any) -> None:
        """One line. Values are never secrets: names, numbers, phases, reasons."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{int(time.time() * 1000) % 1000:03d}Z"
        line = json.dumps({"at": at, "level": level, "event": event, **fields}, default=str)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()

    def write_event(self, happened: Event) -> None:
        """A line of a stream's event log."""
        self.write(
            happened.kind,
            level="warning" if happened.to_phase in (Phase.BACKOFF, Phase.PARKED) else "info",
            stream=happened.stream,
            source=happened.from_phase,
            target=happened.to_phase,
            cause=happened.cause,
            actor=happened.actor,
            generation=happened.generation,
            epoch=happened.epoch,
            detail=happened.detail,
        )
