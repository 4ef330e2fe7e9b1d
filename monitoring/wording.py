"""Numbers and moments as people read them; the same words on the terminal and on the status page."""

from __future__ import annotations

from headgate.streams.model import Event
from monitoring.snapshot import PipelineSnapshot

__all__ = ["age", "because", "count", "duration", "happened", "lag", "quarantined", "rate"]

UNKNOWN_MARK = "?"  # not known, which is something else than 0 and than nothing yet
NOTHING_MARK = "–"

_STEPS = ((86400 * 2, 86400, "d"), (3600 * 2, 3600, "h"), (120, 60, "min"))


def duration(seconds: float) -> str:
    """`850 ms`, `12 s`, `5 min`, `3 h`, `4 d`."""
    for least, unit, name in _STEPS:
        if seconds >= least:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s" if seconds >= 1 or seconds <= 0 else f"{seconds * 1000:.0f} ms"


def age(moment: float | None, now: float) -> str:
    """How long ago a moment was; `in 5 s` for one to come."""
    if moment is None:
        return NOTHING_MARK
    passed = now - moment
    # Half a second ahead is two clocks, not the future.
    return f"in {duration(-passed)}" if passed < -0.5 else f"{duration(max(passed, 0))} ago"


def count(value: float | None) -> str:
    """`12 345 678`, with narrow spaces that do not break."""
    return UNKNOWN_MARK if value is None else f"{value:,.0f}".replace(",", "\u202f")


def rate(value: float | None) -> str:
    if value is None:
        return UNKNOWN_MARK
    return count(value) if value >= 100 or value == 0 else f"{value:.1f}"


def lag(snapshot: PipelineSnapshot) -> str:
    """`1 200 (35 s)`: records and the age of the oldest."""
    if snapshot.lag_records is None:
        return UNKNOWN_MARK
    seconds = "" if snapshot.lag_seconds is None else f" ({duration(snapshot.lag_seconds)})"
    return count(snapshot.lag_records) + seconds


def quarantined(snapshot: PipelineSnapshot) -> str:
    """`12 (0.4 %)` of what was read."""
    rows = snapshot.rows
    if rows is None:
        return NOTHING_MARK
    if not rows.read:
        return count(rows.quarantined)
    share = 100 * rows.quarantined / rows.read
    return f"{count(rows.quarantined)} ({share:.2g} %)" if rows.quarantined else "0"


def happened(event: Event) -> str:
    """`starting → running` for a change of phase, and what it was for anything else."""
    if event.from_phase != event.to_phase and event.to_phase:
        return f"{event.from_phase} → {event.to_phase}" if event.from_phase else event.to_phase
    return event.kind


def because(event: Event) -> str:
    """Cause, detail and actor, each said once."""
    parts = dict.fromkeys(
        filter(None, (event.cause, event.detail, f"by {event.actor}" if event.actor else ""))
    )
    parts.pop(event.kind, None)
    return " · ".join(parts)
