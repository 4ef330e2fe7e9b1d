"""Moments as the results write them: ISO 8601 in UTC, milliseconds only where there are some."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["iso", "seconds_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(milliseconds: int) -> str:
    """`2023-10-01T12:00:00Z`, or `2023-10-01T12:00:00.250Z`."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    whole = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    fraction = f".{moment.microsecond // 1000:03d}" if moment.microsecond else ""
    return f"{whole}{fraction}Z"


def seconds_of(text: str) -> float:
    """Unix seconds of what `iso` wrote. Raises ValueError for anything else."""
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()
