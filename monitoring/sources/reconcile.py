"""Airflow's sweep over the streams, from the file that each sweep leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

from monitoring.watch import Reading

__all__ = ["read_sweep"]


def read_sweep(state: Path) -> Reading[float | None]:
    """When the last sweep of the reconcile DAG ended; None where Airflow has never made one."""
    try:
        return Reading(float(json.loads((state / "reconcile.json").read_text(encoding="utf-8"))["at"]))
    except FileNotFoundError:
        return Reading(None)
