from __future__ import annotations

import json
from typing import Any

import pytest

from headgate.cli.quality import exit_code
from headgate.quality.verdict import ExpectationResult, Verdict, worst_severity


def verdict(status: Any, severity: str = "", *results: ExpectationResult) -> Verdict:
    return Verdict("p", "o", status, severity, 1.0, results, 3, 2.0, "hash")


def result(severity: Any, *, success: bool) -> ExpectationResult:
    return ExpectationResult("ExpectX", "c", severity, success)


def test_the_worst_of_what_failed_counts_and_what_holds_does_not() -> None:
    assert worst_severity([]) == ""
    assert worst_severity([result("critical", success=True), result("info", success=False)]) == "info"
    assert worst_severity([result("info", success=False), result("warning", success=False)]) == "warning"


def test_a_verdict_survives_json() -> None:
    before = verdict("failed", "critical", result("critical", success=False))
    assert Verdict.from_json(json.loads(json.dumps(before.to_json()))) == before


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([], 0),
        ([verdict("passed")], 0),
        ([verdict("failed", "warning")], 0),
        ([verdict("failed", "critical"), verdict("errored"), verdict("no_data")], 1),
        ([verdict("passed"), verdict("errored"), verdict("no_data")], 5),
        ([verdict("passed"), verdict("no_data")], 6),
    ],
)
def test_the_worst_output_decides_how_the_check_exits(verdicts: list[Verdict], code: int) -> None:
    assert exit_code(verdicts) == code
