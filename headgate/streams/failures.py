"""Why a driver died: from error conditions, message and exit status to one of seven classes.

The table of failure_rules is read from the top and the first rule that matches decides: what must
never be restarted comes before what may be, and evidence that only one cause can leave comes before
evidence that several can. Conditions are Spark's (`KAFKA_DATA_LOSS.START_OFFSET_RESET`); those written
as `[CONDITION]` in the message count as well, since a wrapper such as FOREACH_BATCH_USER_FUNCTION_ERROR
says only that something inside it failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from signal import Signals

from headgate.streams.failure_rules import RULES, Rule
from headgate.streams.model import FailureClass

__all__ = ["EXIT_FAILED", "EXIT_FENCED", "EXIT_REFUSED", "Diagnosis", "classify", "diagnose", "diagnose_exit"]

EXIT_FAILED = 10
EXIT_FENCED = 11
EXIT_REFUSED = 12
# A stack trace can hold the text of records; a cause is always named in the first part of it.
_MAX_TEXT = 65_536


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The class, the rule that decided, and the words it was decided by."""

    failure: FailureClass
    rule: str
    evidence: str


_WRITTEN = re.compile(r"\[([A-Z][A-Z0-9_]{3,}(?:\.[A-Z0-9_]+)*)\]")


def classify(conditions: Sequence[str], message: str) -> FailureClass:
    """The class of a failure; UNKNOWN when nothing is recognised."""
    return diagnose(conditions, message).failure


def diagnose(conditions: Sequence[str], message: str) -> Diagnosis:
    """The class of a failure together with what it was recognised by."""
    text = message[:_MAX_TEXT]
    named = [*conditions, *_WRITTEN.findall(text)]
    # Callers pass the names of exceptions too, which only the phrases know.
    searched = "\n".join([*conditions, text])
    for rule in RULES:
        evidence = next(_matches(rule, named, searched), None)
        if evidence is not None:
            return Diagnosis(rule.failure, rule.name, evidence)
    return Diagnosis(
        FailureClass.UNKNOWN, "nothing known was recognised", text.strip().partition("\n")[0][:200]
    )


def _matches(rule: Rule, named: Sequence[str], text: str) -> Iterator[str]:
    if rule.conditions is not None:
        yield from (name for name in named if rule.conditions.fullmatch(name))
    if rule.phrases is not None and (found := rule.phrases.search(text)):
        yield found.group(0)[:200]


def diagnose_exit(returncode: int | None, signal: int | None) -> Diagnosis:
    """The class of an exit that nobody asked for, when the driver left no reason of its own.

    Both None means that nobody saw the exit: the runner was killed as well.
    """
    if signal:
        return _diagnose_signal(signal)
    if returncode is None:
        rule, evidence = "the process vanished and its runner with it", "no exit status"
        return Diagnosis(FailureClass.TRANSIENT, rule, evidence)
    failure, rule = _EXITS.get(returncode, (FailureClass.UNKNOWN, "the driver failed and left no reason"))
    return Diagnosis(failure, rule, f"exit code {returncode}")


_EXITS = {
    0: (FailureClass.UNKNOWN, "the driver ended though nobody asked it to"),
    EXIT_FENCED: (FailureClass.FENCED, "the driver found a newer epoch"),
    EXIT_REFUSED: (FailureClass.CHECKPOINT, "the driver refused to start and left no reason"),
    126: (FailureClass.DETERMINISTIC, "the driver's program cannot be run"),
    127: (FailureClass.DETERMINISTIC, "the driver's program cannot be run"),
}


def _diagnose_signal(signal: int) -> Diagnosis:
    try:
        name = Signals(signal).name
    except ValueError:
        name = f"signal {signal}"
    # SIGKILL from outside is the kernel's answer to a full machine or a person's to a stuck one; a crash
    # of the JVM (SIGSEGV, SIGABRT) may come back, so all of them count towards the brake.
    cause = "the kernel or a person killed it" if name == "SIGKILL" else "a signal ended it"
    return Diagnosis(FailureClass.TRANSIENT, cause, name)
