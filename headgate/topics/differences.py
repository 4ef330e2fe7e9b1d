"""What a plan is made of: actions that apply carries out, refusals, and notes.

    + creates something        ~ changes something that exists
    ! refused, with the reason · told for information, nothing happens

All three are JSON-able as they are, so that a plan can be a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Action", "ActionKind", "Note", "Refusal"]

ActionKind = Literal[
    "create_topic",
    "add_partitions",
    "change_config",
    "adopt_topic",
    "create_table",
    "add_columns",
    "put_contract",
]
_CREATES = ("create_topic", "create_table")


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that apply does. `arguments` say from what to what, so a stale action is seen as such."""

    kind: ActionKind
    address: str  # `topic NAME`, `table PIPELINE/TABLE`, `contract PIPELINE`
    pipeline: str
    summary: str
    reason: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def symbol(self) -> str:
        new_contract = self.kind == "put_contract" and self.arguments.get("before") is None
        return "+" if new_contract or self.kind in _CREATES else "~"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that would do harm: what it is, why, and what to do instead."""

    code: str
    address: str
    pipeline: str
    message: str
    help: str


@dataclass(frozen=True, slots=True)
class Note:
    """One thing worth knowing that apply does not touch: drift, a removed file, a shared topic."""

    code: str
    address: str
    pipeline: str
    message: str
