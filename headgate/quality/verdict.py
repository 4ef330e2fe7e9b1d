"""The verdict of one check of one output: four values, never two.

passed    every expectation of severity critical holds
failed    a critical one does not; what is newer than the last passed check is withheld
errored   the check itself broke: nothing is known
no_data   there is no committed row to look at
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["ExpectationResult", "Severity", "Status", "Verdict", "worst_severity"]

Status = Literal["passed", "failed", "errored", "no_data"]
Severity = Literal["critical", "warning", "info"]
_SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class ExpectationResult:
    """What came of one expectation. `errored` tells a broken check from one that does not hold."""

    name: str
    column: str
    severity: Severity
    success: bool
    detail: str = ""
    errored: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """`severity` is the worst that failed, or empty. `max_event_time` is the newest that was looked at."""

    pipeline: str
    output: str
    status: Status
    severity: str
    at: float
    expectations: tuple[ExpectationResult, ...]
    rows_checked: int
    max_event_time: float | None
    contract_hash: str
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        expectations = tuple(ExpectationResult(**each) for each in data["expectations"])
        return cls(**{**data, "expectations": expectations})


def worst_severity(results: Iterable[ExpectationResult]) -> str:
    """The worst severity among those that do not hold, empty when all do."""
    failed = {each.severity for each in results if not each.success}
    return next((severity for severity in _SEVERITIES if severity in failed), "")
