"""What preflight says: findings, the choices that people have, and the one verdict that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from headgate.streams.model import FailureClass

__all__ = ["Finding", "Refusal", "lineage_choices", "refusal", "refuse", "verdict_json"]

# Records that were not read are not there any more, or the offsets mean other ones.
_DATA_LOSS = frozenset(
    ("topic_recreated", "topic_deleted", "partitions_lost", "retention_passed", "offsets_ahead")
)
# The checkpoint is whole; what is around it has to be applied first.
_NOT_APPLIED = frozenset(("topic_missing", "topic_unknown", "table_missing", "table_behind"))
# It is whole, too, where tables cannot be where the settings put them.
_MISPLACED = frozenset(("tables_on_s3", "store_refused"))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    code: str
    severity: Literal["ok", "warn", "refuse"]
    message: str
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.code}: {self.message}", *(f"    choice: {each}" for each in self.choices)])


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a stream must not start, in one line, and the class that it is parked with."""

    failure: FailureClass
    text: str


def refuse(code: str, message: str, *choices: str) -> Finding:
    return Finding(code, "refuse", message, choices)


def lineage_choices(pipeline: str, *, snapshot: bool = True) -> tuple[str, ...]:
    """The ways to go on without the checkpoint as it is. Each is a command that says what it costs; a
    snapshot is none where its state would not fit either."""
    anew = (
        f"headgate restart {pipeline} --from earliest: a new lineage; reads again what the topics still "
        "hold, and what was committed of it is written again",
        f"headgate restart {pipeline} --from latest: a new lineage; what was not read until now is skipped",
    )
    back = (
        f"headgate restart {pipeline} --from snapshot: goes on from the newest good snapshot; what came "
        "after it is read again"
    )
    return (*anew, back) if snapshot else anew


def refusal(findings: Sequence[Finding]) -> Refusal | None:
    """The verdict: None when the stream may start."""
    refused = [each for each in findings if each.severity == "refuse"]
    if not refused:
        return None
    codes = {each.code for each in refused}
    kind = FailureClass.CHECKPOINT
    if codes & _DATA_LOSS:
        kind = FailureClass.DATA_LOSS
    elif codes <= _NOT_APPLIED | _MISPLACED:
        kind = FailureClass.DETERMINISTIC
    told = "; ".join(f"{each.code}: {each.message}" for each in refused)
    choices = list(dict.fromkeys(choice for each in refused for choice in each.choices))
    listed = " ".join(f"({number}) {choice}." for number, choice in enumerate(choices, 1))
    return Refusal(kind, f"{told}. Choices: {listed}" if choices else told)


def verdict_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """For `--json`: what would follow, and everything that was looked at."""
    refused = refusal(findings)
    return {
        "may_start": refused is None,
        "failure_class": str(refused.failure) if refused else None,
        "findings": [asdict(each) for each in findings],
    }
