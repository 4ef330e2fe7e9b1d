"""Which lane an output runs in, and why: from its contract alone, so that a plan can say it.

The record outputs of a pipeline are written by one query, from one pass over the topic, so they share a lane.
The Arrow lane runs where a contract asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headgate.contract.frozen import FrozenContract

__all__ = ["LaneChoice", "LaneProblem", "lane_problems", "lanes", "record_lane"]


@dataclass(frozen=True, slots=True)
class LaneChoice:
    lane: Literal["arrow", "jvm"]
    why: str


@dataclass(frozen=True, slots=True)
class LaneProblem:
    """An output that cannot run in the lane that its contract says."""

    output: str
    message: str
    help: str


def lanes(frozen: FrozenContract) -> dict[str, LaneChoice]:
    """The lane of each output. Where there are problems it is what would run without the word."""
    shared = record_lane(frozen)
    state = LaneChoice("jvm", "windows, joins and other state are Spark's")
    return {name: state if output.stateful else shared for name, output in frozen.outputs.items()}


def record_lane(frozen: FrozenContract) -> LaneChoice:
    """The lane of the record query."""
    asked = [frozen.contract.outputs[name].lane for name in frozen.record_outputs]
    if "arrow" not in asked:
        if "jvm" in asked:
            return LaneChoice("jvm", "the contract says so")
        return LaneChoice("jvm", "the contract does not ask for another")
    if "jvm" in asked:
        return LaneChoice("jvm", "an output of the same query must run there")
    reason = _unsupported(frozen)
    return LaneChoice("jvm", reason) if reason else LaneChoice("arrow", "the contract asks for it")


def lane_problems(frozen: FrozenContract) -> list[LaneProblem]:
    """Outputs that ask for a lane and cannot have it."""
    problems = []
    asked = {name: frozen.contract.outputs[name].lane for name in frozen.record_outputs}
    for name, output in frozen.outputs.items():
        if frozen.contract.outputs[name].lane != "arrow":
            continue
        if output.stateful:
            problems.append(
                LaneProblem(name, "windows, joins and other state run in the JVM lane", "leave `lane` out")
            )
        elif "jvm" in asked.values():
            message = (
                "outputs that pass records on are written by one query, and another one says `lane: jvm`"
            )
            problems.append(LaneProblem(name, message, "say the same of both, or leave `lane` out"))
        elif reason := _unsupported(frozen):
            problems.append(LaneProblem(name, f"it cannot run in the Arrow lane: {reason}", "`lane: jvm`"))
    return problems


def _unsupported(frozen: FrozenContract) -> str | None:
    """Why the record query cannot run in the Arrow lane, None where it can."""
    # Arrow and the compiler are only loaded for contracts that ask for them.
    from headgate.arrow.kinds import Unsupported
    from headgate.arrow.plan import plan_records

    try:
        plan_records(frozen)
    except Unsupported as reason:
        return str(reason)
    return None
