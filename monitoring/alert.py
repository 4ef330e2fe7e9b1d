"""One alert as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Alert", "Severity"]

Severity = Literal["page", "warn", "ticket", "none"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. `hold` is Prometheus's `for`; `blind` says what fires when its series are missing."""

    name: str
    expr: str
    hold: str
    severity: Severity
    summary: str
    description: str
    blind: str
    keep_firing_for: str = ""
    no_data: Literal["Alerting", "OK"] = "Alerting"
