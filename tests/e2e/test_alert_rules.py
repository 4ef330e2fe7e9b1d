"""Prometheus' own tool reads the rules and runs their cases."""

from __future__ import annotations

import subprocess
from pathlib import Path

import monitoring
from monitoring.alerts import ALERTS
from monitoring.tools import promtool

HERE = Path(monitoring.__file__).parent
CASES = HERE / "tests"


def test_promtool_accepts_the_rules() -> None:
    run = subprocess.run(
        [promtool(), "check", "rules", str(HERE / "generated/rules.yml")],
        text=True,
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_promtool_runs_the_cases_of_every_alert() -> None:
    cases = [str(CASES / f"{alert.name}.yml") for alert in ALERTS]
    run = subprocess.run([promtool(), "test", "rules", *cases], text=True, capture_output=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("SUCCESS") == len(cases)
