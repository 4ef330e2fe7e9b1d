"""Waiting with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["wait_for"]

T = TypeVar("T")


def wait_for(look: Callable[[], T], seconds: float, what: str, pause: float = 0.1) -> T:
    """The first true value of `look`; ends the benchmark when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := look()):
        if time.monotonic() > deadline:
            raise SystemExit(f"error: not within {seconds:.0f} s: {what}")
        time.sleep(pause)
    return value
