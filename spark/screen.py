"""Decides which records are good: decoding reasons, the contract's rules, outputs that cannot be computed.

The same expression serves the record query and every stateful query, so they leave out the same records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from headgate.contract.compile import failure_conditions, source_columns
from headgate.contract.refusal import Refusal
from spark.decode import decode

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from headgate.contract.model import Contract
    from headgate.formats.decoder import Writers

__all__ = ["Screened", "screen"]


# Every condition is computed once for each record and kept as a bit: counting, filtering and naming would
# each compute all of them again.
_BITS = 62  # of a bigint, whose sign is left alone
_ORIGIN = ("_key", "_value", "_topic", "_partition", "_offset", "_arrival", "_now")


@dataclass(frozen=True, slots=True)
class Screened:
    """Decoded records with their verdict. `bad` and the conditions are never NULL.

    `frame` has the columns that SQL may use, where each record is from, and the words of bits.
    `quarantine`: reason to condition, in order; any of them makes a record bad. `warn` and `fail` are
    rules that only count, and rules that stop the stream. What breaks one of `fail` is not good either.
    """

    frame: DataFrame
    columns: tuple[str, ...]
    words: tuple[str, ...]
    _quarantine: Mapping[str, int]
    _warn: Mapping[str, int]
    _fail: Mapping[str, int]

    @property
    def quarantine(self) -> tuple[tuple[str, Column], ...]:
        return _conditions(self._quarantine)

    @property
    def warn(self) -> tuple[tuple[str, Column], ...]:
        return _conditions(self._warn)

    @property
    def fail(self) -> tuple[tuple[str, Column], ...]:
        return _conditions(self._fail)

    @property
    def bad(self) -> Column:
        return _any_bit(self._quarantine.values())

    @property
    def warned(self) -> Column:
        return _any_bit(self._warn.values())

    @property
    def passed(self) -> Column:
        return ~_any_bit([*self._quarantine.values(), *self._fail.values()])

    def passed_or_failed(self, refusals: Mapping[str, Refusal]) -> Column:
        """`passed`; a record that breaks one of `fail` ends the query with the mark of its refusal. A query
        that reads on its own must end there: what it leaves out and commits, no contract brings back."""
        if not self._fail:
            return self.passed
        marks = F.coalesce(*(F.when(broken, _mark(refusals[name])) for name, broken in self.fail))
        failed = F.raise_error(F.coalesce(marks, F.lit("a rule of `fail` was broken"))).cast("boolean")
        return F.when(_any_bit(self._fail.values()), failed).otherwise(self.passed)

    def good(self, refusals: Mapping[str, Refusal] | None = None) -> DataFrame:
        """The records that passed, with the columns that SQL may use. With `refusals` as in
        `passed_or_failed`."""
        passed = self.passed if refusals is None else self.passed_or_failed(refusals)
        return self.frame.where(passed).select(*self.columns)

    def reasons(self) -> Column:
        """The names of what a record broke: array<string>."""
        named = [F.when(condition, F.lit(name)) for name, condition in self.quarantine]
        return F.array_compact(F.array(*named))

    def reasons_of(self, words: Sequence[int]) -> list[str]:
        """The same for a record that was collected, from its words of bits."""
        return [name for name, bit in self._quarantine.items() if words[bit // _BITS] >> bit % _BITS & 1]


def screen(
    raw: DataFrame,
    contract: Contract,
    source_name: str,
    writers: Writers | None = None,
    beside: Sequence[str] = (),
) -> Screened:
    """Decode and judge the records of one source; `raw` has the columns of `spark.decode.raw_columns`, and
    what is `beside` them stays in the frame as it is."""
    source = contract.sources[source_name]
    decoded = decode(raw, source, writers, beside)
    # What could not be decoded has no columns to judge: it has its reason already.
    undecoded = reduce(
        lambda left, right: left | right, [found for _, found in decoded.reasons], F.lit(False)
    )
    frame = decoded.frame.withColumn("_undecoded", undecoded)
    found = list(decoded.reasons)
    kinds: dict[str, dict[str, int]] = {"quarantine": {}, "warn": {}, "fail": {}}
    kinds["quarantine"] |= {name: bit for bit, (name, _) in enumerate(found)}
    otherwise = {rule.name: rule.otherwise for rule in source.rules}
    for name, sql in failure_conditions(contract, source_name):
        kinds[otherwise.get(name, "quarantine")][name] = len(found)
        found.append((name, ~F.col("_undecoded") & F.coalesce(F.expr(sql), F.lit(True))))
    conditions = [condition for _, condition in found]
    words = [_word(conditions[first : first + _BITS]) for first in range(0, len(conditions), _BITS)]
    names = tuple(f"_broken{number}" for number in range(len(words)))
    columns = tuple(source_columns(source))
    kept = dict.fromkeys((*_ORIGIN, *beside, *columns))
    frame = frame.select(
        *kept, *(_settled(word).alias(name) for word, name in zip(words, names, strict=True))
    )
    return Screened(frame, columns, names, kinds["quarantine"], kinds["warn"], kinds["fail"])


def _mark(refusal: Refusal) -> Column:
    before, between, behind = (F.lit(part) for part in refusal.mark())
    return F.concat(
        before, F.col("_partition").cast("string"), between, F.col("_offset").cast("string"), behind
    )


def _word(conditions: Sequence[Column]) -> Column:
    bits = [
        F.when(condition, F.lit(1 << bit)).otherwise(F.lit(0)).cast("bigint")
        for bit, condition in enumerate(conditions)
    ]
    return reduce(lambda left, right: left.bitwiseOR(right), bits)


def _settled(word: Column) -> Column:
    """The same word, as a value that Spark does not take for deterministic. A filter on any other is pushed
    below the projection, where each record would be decoded to judge it, and again for its columns."""
    return word.bitwiseOR(F.spark_partition_id().cast("bigint") * F.lit(0))


def _conditions(bits: Mapping[str, int]) -> tuple[tuple[str, Column], ...]:
    return tuple((name, _any_bit([bit])) for name, bit in bits.items())


def _any_bit(bits: Iterable[int]) -> Column:
    """Whether one of these bits is set."""
    masks: dict[int, int] = {}
    for bit in bits:
        masks[bit // _BITS] = masks.get(bit // _BITS, 0) | 1 << bit % _BITS
    tests = [F.col(f"_broken{word}").bitwiseAND(F.lit(mask)) != 0 for word, mask in masks.items()]
    return _any(tests)


def _any(conditions: Iterable[Column]) -> Column:
    return reduce(lambda left, right: left | right, conditions, F.lit(False))
