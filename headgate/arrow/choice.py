"""Which lane an output runs in, and why: from its contract alone, so that a plan can say it.

The record outputs of a pipeline are written by one query, from one pass over the topic, so they share a lane,
and without any of them the query still screens every record. An output's own `lane` goes before `job.lane`:

    jvm     Spark SQL
    arrow   Arrow; a contract that cannot have it is refused
    auto    Arrow where the meaning is provably the same, else Spark SQL

Without a word it is `auto` where Spark runs in the driver, and the JVM lane on a cluster, whose workers would
need this environment and the tables' folder. What `auto` comes to is kept with the contract when it is
frozen: what is installed later may know more, or less, and a driver runs what was applied.

An output with windows, joins or other state is a query of its own, and Spark's. Only how its records are read
and screened has a lane. It is the output's own word, or `auto` as above; `job.lane` is the word for records
that are passed on, but with `jvm` there nothing is read in Arrow unless an output asks for it itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headgate.checkpoints.layout import RECORDS
from headgate.contract.frozen import FrozenContract

__all__ = [
    "LaneChoice",
    "LaneProblem",
    "decided_feeds",
    "decided_lane",
    "lane_problems",
    "lanes",
    "record_lane",
    "screening_output",
    "stateful_lane",
]

_STATE = "its windows, joins and other state are Spark's"
_OFFER = f"{_STATE}; with `lane: arrow` its records are read in Arrow"
_FED = f"its records are read in Arrow; {_STATE}"
_KEPT = "so it was when the contract was applied"
_ASKED, _SAID = "the contract asks for it", "the contract says so"
_READ_IN_SPARK = "change that, or leave `lane` out: Spark reads its records then"
_SAY_THE_SAME = "say the same of all of them, or leave `lane` out"
_NOT_ASKED = "nothing was decided for it, as on a cluster, and the contract does not ask for the other one"
_CHOICES = "change that, or `lane: jvm`, or `lane: auto`: Arrow as soon as it can be"


@dataclass(frozen=True, slots=True)
class LaneChoice:
    lane: Literal["arrow", "jvm"]
    why: str


@dataclass(frozen=True, slots=True)
class LaneProblem:
    """A lane that is asked for and cannot be had; `at` is the key of the contract that asks."""

    at: tuple[str, ...]
    message: str
    help: str


def lanes(frozen: FrozenContract) -> dict[str, LaneChoice]:
    """The lane of each output; of the record query under its own name where it writes no output. Where there
    are problems it is what would run without the word."""
    shared = record_lane(frozen)
    found = {
        name: _told(frozen, name) if output.stateful else shared for name, output in frozen.outputs.items()
    }
    return found if frozen.record_outputs else {RECORDS: shared, **found}


def stateful_lane(frozen: FrozenContract, output: str) -> LaneChoice:
    """The lane in which a stateful output's records are read. Its state is the same in both."""
    asked, decided = frozen.contract.outputs[output].lane, frozen.fed.get(output)
    if asked == "jvm":
        return LaneChoice("jvm", _SAID)
    if asked != "arrow" and decided is None:
        return LaneChoice("jvm", _STATE)
    reason = _not_read(frozen, output)
    if asked == "arrow":
        return LaneChoice("jvm", reason) if reason else LaneChoice("arrow", _ASKED)
    if decided == "jvm" or reason:
        return LaneChoice("jvm", f"{_STATE}; {reason or _KEPT}")
    return LaneChoice("arrow", _FED)


def screening_output(frozen: FrozenContract) -> str | None:
    """The stateful output whose tasks find all that the record query would find, so that one reading does for
    both; None where that one writes outputs of its own, or judges in another lane."""
    if frozen.record_outputs or len(frozen.contract.sources) > 1 or record_lane(frozen).lane != "arrow":
        return None
    found = (name for name in frozen.stateful_outputs if stateful_lane(frozen, name).lane == "arrow")
    return next(found, None)


def record_lane(frozen: FrozenContract) -> LaneChoice:
    """The lane of the record query."""
    asked = {word for word, _ in _asked(frozen)}
    if "jvm" in asked:
        return LaneChoice("jvm", _SAID)
    if not asked and frozen.lane is None:
        return LaneChoice("jvm", _NOT_ASKED)
    reason = _unsupported(frozen)
    if frozen.lane == "jvm":
        return LaneChoice("jvm", reason or _KEPT)
    if reason:
        return LaneChoice("jvm", reason)
    return LaneChoice("arrow", _ASKED if "arrow" in asked else "it gives the same")


def decided_lane(frozen: FrozenContract, *, local: bool) -> Literal["arrow", "jvm"] | None:
    """What `auto` comes to; None where it is not left open. `local`: Spark runs in the driver's process."""
    asked = {word for word, _ in _asked(frozen)}
    if asked - {"auto"} or not (asked or local):
        return None
    return "jvm" if _unsupported(frozen) else "arrow"


def decided_feeds(frozen: FrozenContract, *, local: bool) -> dict[str, Literal["arrow", "jvm"]]:
    """The same for the outputs with state that leave it open: how their records are read."""
    found: dict[str, Literal["arrow", "jvm"]] = {}
    for name in frozen.stateful_outputs:
        own, whole = frozen.contract.outputs[name].lane, frozen.contract.job.lane
        if own == "auto" or (own is None and local and whole != "jvm"):
            found[name] = "jvm" if _not_read(frozen, name) else "arrow"
    return found


def lane_problems(frozen: FrozenContract) -> list[LaneProblem]:
    """Where a contract asks for a lane that it cannot have, or was applied with."""
    found = [
        LaneProblem(
            ("outputs", name, "lane"), f"its records cannot be read in Arrow: {reason}", _READ_IN_SPARK
        )
        for name in frozen.stateful_outputs
        if frozen.contract.outputs[name].lane == "arrow" and (reason := _not_read(frozen, name))
    ]
    asked = _asked(frozen)
    wanted = [at for word, at in asked if word == "arrow" or (word == "auto" and frozen.lane == "arrow")]
    if not asked and frozen.lane == "arrow":
        wanted = [("job",)]
    if wanted and any(word == "jvm" for word, _ in asked):
        message = "outputs that pass records on are written by one query, and another one says `lane: jvm`"
        found += [LaneProblem(at, message, _SAY_THE_SAME) for at in wanted]
    elif wanted and (reason := _unsupported(frozen)):
        message = f"it cannot run in the Arrow lane: {reason}"
        found += [LaneProblem(at, message, _CHOICES) for at in wanted]
    return found


def _told(frozen: FrozenContract, output: str) -> LaneChoice:
    """The lane of a stateful output, and that there is another one for it, where nobody has chosen."""
    choice = stateful_lane(frozen, output)
    return LaneChoice("jvm", _OFFER) if choice.why == _STATE and not _not_read(frozen, output) else choice


def _asked(frozen: FrozenContract) -> list[tuple[str, tuple[str, ...]]]:
    """What is asked for the record query, and by which key."""
    whole = frozen.contract.job.lane
    every = [frozen.contract.outputs[name].lane for name in frozen.record_outputs]
    found: list[tuple[str, tuple[str, ...]]] = [
        (lane, ("outputs", name, "lane"))
        for name, lane in zip(frozen.record_outputs, every, strict=True)
        if lane is not None
    ]
    if whole is not None and (not every or None in every):
        found.append((whole, ("job", "lane")))
    return found


def _unsupported(frozen: FrozenContract) -> str | None:
    """Why the record query cannot run in the Arrow lane, None where it can."""
    # Arrow and the compiler are only loaded for contracts that may have them.
    from headgate.arrow.kinds import Unsupported
    from headgate.arrow.plan import plan_records

    try:
        plan_records(frozen)
    except Unsupported as reason:
        return str(reason)
    return None


def _not_read(frozen: FrozenContract, output: str) -> str | None:
    """Why the records of a stateful output cannot be read in Arrow, None where they can."""
    from headgate.arrow.passed import unsupported_reason

    return unsupported_reason(frozen, output)
