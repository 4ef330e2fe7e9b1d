"""What the API says of a published document, decided without Redis and without a clock of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.moments import seconds_of
from serving.results import Published

__all__ = ["answer", "no_data"]


def answer(published: Published, now: float) -> dict[str, Any] | None:
    """The body of a 200, or None while there is nothing to show."""
    document = published.document
    if document is None:
        return None
    since = document["event_time"] or document["published_at"]
    return {
        "pipeline": document["pipeline"],
        "output": document["output"],
        "event_time": document["event_time"],
        "rows": document["rows"],
        "complete": is_complete(document),
        "age_seconds": round(now - seconds_of(since), 3),
        "watermark": document["watermark"],
        "verdict": published.verdict,
        "withheld": published.held,
        "batch_id": document["batch_id"],
        "epoch": document["epoch"],
    }


def is_complete(document: Mapping[str, Any]) -> bool | None:
    """Whether no record can change these rows any more; None when that cannot be known."""
    if document["event_time"] is None or document["watermark"] is None or document["window_seconds"] is None:
        return None
    end = seconds_of(document["event_time"]) + float(document["window_seconds"])
    return seconds_of(document["watermark"]) >= end


def no_data(published: Published, pipeline: str) -> dict[str, Any]:
    """The body of a 404 for an output that has nothing to show."""
    if not published.held:
        return {"error": "No data available"}
    return {
        "error": "No data available",
        "reason": "the last quality check failed, and none had passed before it",
        "verdict": published.verdict,
        "help": f"headgate check {pipeline}",
    }
