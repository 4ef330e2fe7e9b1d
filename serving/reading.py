"""What a reader gets from Redis: the published document with its verdict, and rows of the live stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Published", "StreamEntries", "TailRow", "tail_row"]

StreamEntries = list[tuple[str, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Published:
    """What is served of one output now: the document (None: nothing yet, or withheld) and the verdict."""

    document: Mapping[str, Any] | None
    keep: int
    verdict: str | None
    verdict_at: float | None
    held: bool

    @classmethod
    def of(cls, document: str | None, meta: Mapping[str, str], hold: Mapping[str, str]) -> Published:
        return cls(
            document=json.loads(document) if document else None,
            keep=int(meta.get("keep", 0)),
            verdict=hold.get("status"),
            verdict_at=float(hold["at"]) if "at" in hold else None,
            held=hold.get("held") == "1",
        )


@dataclass(frozen=True, slots=True)
class TailRow:
    """One row of the live stream. `omitted`: so many rows of its batch, before it, were not streamed."""

    position: str
    event_time: str | None
    batch_id: int
    epoch: int
    body: Mapping[str, Any]
    omitted: int = 0


def tail_row(entry: tuple[str, dict[str, str]]) -> TailRow:
    position, fields = entry
    return TailRow(position=position, **json.loads(fields["row"]))
