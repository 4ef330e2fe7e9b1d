"""What became of the records that a producer took on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Counts"]


@dataclass(slots=True)
class Counts:
    """found + sent = delivered + refused + spooled + unsaved, once nothing is on its way."""

    found: int = 0  # were in the spool when it began
    sent: int = 0  # taken on
    delivered: int = 0  # acknowledged by the broker
    resent: int = 0  # of these, from the spool
    refused: int = 0  # Kafka never takes them; kept apart
    spooled: int = 0  # in the spool now
    unsaved: int = 0  # in memory alone: lost if the process ends now
    first_unsaved: int | None = None  # the oldest of them, counted from 1 as they were taken on
