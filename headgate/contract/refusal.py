"""A record that breaks a rule whose `otherwise` is `fail`: the stream stops before any output has its batch.

Who finds one in a task of Spark, in SQL or in a worker, can say so only as text, which comes back inside of
what Spark makes of it: a mark, which `refusal_in` finds again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from headgate.contract.model import Contract
from headgate.errors import HeadgateError

__all__ = ["RecordPlace", "RecordRefused", "Refusal", "RuleFailedError", "refusal_in", "refusals"]

_MARK = "headgate.rule_failed"
# What Spark's templates of messages would take for theirs is escaped, as JSON allows for any character.
_ESCAPED = {ord(each): f"\\u{ord(each):04x}" for each in "$<>[]"}


@dataclass(frozen=True, slots=True, order=True)
class RecordPlace:
    """Where a record is, in its topic."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that was broken; `expect` is what it says."""

    pipeline: str
    source: str
    topic: str
    rule: str
    expect: str

    def mark(self) -> tuple[str, str, str]:
        """The mark's text: before the partition, between it and the offset, and behind that."""
        told = json.dumps(asdict(self)).translate(_ESCAPED)
        return f'{_MARK} {{"refusal": {told}, "partition": ', ', "offset": ', "}"

    def error(self, place: RecordPlace | None, records: int = 1) -> RuleFailedError:
        """`records`: how many of them broke the rule; `place` is that of the first one."""
        count = "a record" if records == 1 else f"{records} records"
        where = ""
        if place is not None:
            first = "" if records == 1 else "the first of them in "
            where = f": {first}topic {self.topic}, partition {place.partition}, offset {place.offset}"
        return RuleFailedError(
            f"{count} of source {self.source} broke the rule {self.rule}{where}",
            expected=f"{self.expect}, for the rule says `otherwise: fail`",
            help="fix the producer, or say `otherwise: quarantine` and `headgate plan` and "
            f"`headgate apply`; then `headgate restart {self.pipeline}`",
        )


class RuleFailedError(HeadgateError):
    """A record broke a rule whose `otherwise` is `fail`."""


class RecordRefused(HeadgateError):
    """The same in a task of Spark."""

    def __init__(self, refusal: Refusal, place: RecordPlace) -> None:
        before, between, behind = refusal.mark()
        super().__init__(f"{before}{place.partition}{between}{place.offset}{behind}")


def refusals(contract: Contract, source: str, topic: str) -> dict[str, Refusal]:
    """Of each rule of a source that stops the stream, by its name."""
    stopping = (rule for rule in contract.sources[source].rules if rule.otherwise == "fail")
    return {rule.name: Refusal(contract.pipeline, source, topic, rule.name, rule.expect) for rule in stopping}


def refusal_in(text: str) -> RuleFailedError | None:
    """What a mark in a text says, None where there is none that is whole."""
    for behind in text.split(f"{_MARK} ")[1:]:
        try:
            told, _ = json.JSONDecoder().raw_decode(behind)
            return Refusal(**told["refusal"]).error(RecordPlace(told["partition"], told["offset"]))
        except (ValueError, TypeError, KeyError):
            continue  # what Spark shows of a plan has the mark's text, too, without a record
    return None
