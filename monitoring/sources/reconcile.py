"""Airflow's sweep over the streams, from the file that each sweep leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

from monitoring.readings import Sweep, SweepFinding
from monitoring.watch import Reading

__all__ = ["read_sweep"]


def read_sweep(state: Path) -> Reading[Sweep | None]:
    """The last sweep of the reconcile DAG; None where Airflow has never made one."""
    try:
        swept = json.loads((state / "reconcile.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Reading(None)
    found = {
        each["stream"]: SweepFinding(each["kind"], each["reason"], int(each["generation"]))
        for each in swept["found"]
    }
    return Reading(Sweep(float(swept["at"]), found))
