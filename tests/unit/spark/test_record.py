"""What the books are told of a batch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from spark.record import BAD, GOOD, READ, WARNED, _totals


def totals(read: int, good: int, bad: int, **rules: int) -> Any:
    screened = SimpleNamespace(quarantine=[(name, None) for name in rules], warn=(), fail=())
    return _totals(screened, {READ: read, GOOD: good, BAD: bad, WARNED: 0, **rules})  # type: ignore[arg-type]


def test_good_is_what_was_counted_and_not_what_is_left():
    assert totals(10, 8, 2, positive=2).good == 8
    lost = totals(10, 7, 2)
    assert lost.read - lost.good - lost.quarantined == 1


def test_rules_that_nothing_broke_are_left_out():
    assert totals(10, 8, 2, positive=2, small=0).rules == {"positive": 2}
