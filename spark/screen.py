"""Decides which records are good: decoding reasons, the contract's rules, outputs that cannot be computed.

The same expression serves the record query and every stateful query, so they leave out the same records.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from headgate.contract.compile import failure_conditions, source_columns
from spark.decode import decode

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from headgate.contract.model import Contract

__all__ = ["Screened", "screen"]


@dataclass(frozen=True, slots=True)
class Screened:
    """Decoded records with their verdict. `bad` and `failing` are never NULL.

    `quarantine`: reason to condition, in order; any of them makes a record bad. `warn` and `fail` are
    rules that only count, and rules that stop the stream. What breaks one of `fail` is not good either: a
    stateful query, which may read it before the record query stops the stream, must not take it up.
    """

    frame: DataFrame
    columns: tuple[str, ...]
    quarantine: tuple[tuple[str, Column], ...]
    warn: tuple[tuple[str, Column], ...]
    fail: tuple[tuple[str, Column], ...]

    @property
    def bad(self) -> Column:
        return _any_of([condition for _, condition in self.quarantine])

    def good(self) -> DataFrame:
        """The records that passed, with the columns that SQL may use."""
        failing = _any_of([condition for _, condition in self.fail])
        return self.frame.where(~(self.bad | failing)).select(*self.columns)

    def reasons(self) -> Column:
        """The names of what a record broke: array<string>."""
        named = [F.when(condition, F.lit(name)) for name, condition in self.quarantine]
        return F.array_compact(F.array(*named))


def screen(raw: DataFrame, contract: Contract, source_name: str) -> Screened:
    """Decode and judge the records of one source; `raw` has the columns of `spark.decode.raw_columns`."""
    source = contract.sources[source_name]
    decoded = decode(raw, source)
    otherwise = {rule.name: rule.otherwise for rule in source.rules}
    whole = ~_any_of([condition for _, condition in decoded.reasons])
    quarantine = list(decoded.reasons)
    warn: list[tuple[str, Column]] = []
    fail: list[tuple[str, Column]] = []
    for name, sql in failure_conditions(contract, source_name):
        # What could not be decoded has no columns to judge: it has its reason already.
        condition = whole & F.coalesce(F.expr(sql), F.lit(True))
        kind = otherwise.get(name, "quarantine")
        {"quarantine": quarantine, "warn": warn, "fail": fail}[kind].append((name, condition))
    columns = tuple(source_columns(source))
    return Screened(decoded.frame, columns, tuple(quarantine), tuple(warn), tuple(fail))


def _any_of(conditions: list[Column]) -> Column:
    return reduce(lambda left, right: left | right, conditions, F.lit(False))
