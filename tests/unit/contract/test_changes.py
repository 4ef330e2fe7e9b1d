from __future__ import annotations

from typing import Any

import pytest
from contract_examples import contract_of

from headgate.contract.changes import changed_keys

COLUMNS = [{"name": "at", "type": "timestamp"}, {"name": "n", "type": "int"}]
SOURCE = {"topic": "t", "columns": COLUMNS, "event_time": {"column": "at"}}
OUTPUT = {"sql": "SELECT at, n FROM a", "to": [{"delta": "o"}]}
RULE = {"name": "small", "expect": "n < 10"}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    def contract(more: dict[str, Any]) -> Any:
        outputs = {"o": OUTPUT, **more.get("outputs", {})}
        return contract_of({"a": {**SOURCE, **more.get("source", {})}}, outputs)

    return changed_keys(contract(before), contract(after))


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, {}, []),
        ({}, {"source": {"rules": [RULE]}}, ["sources.a.rules is new"]),
        (
            {"source": {"rules": [RULE]}},
            {"source": {"rules": [{**RULE, "name": "other"}, {**RULE, "expect": "n < 20"}]}},
            ["sources.a.rules.other is new", "sources.a.rules.small.expect: n < 10 → n < 20"],
        ),
        ({"source": {"rules": [RULE]}}, {}, ["sources.a.rules is gone"]),
        ({"source": {"partitions": 3}}, {"source": {"partitions": 6}}, ["sources.a.partitions: 3 → 6"]),
        ({}, {"outputs": {"p": {**OUTPUT, "to": [{"redis": "p"}]}}}, ["outputs.p is new"]),
        (
            {},
            {"outputs": {"o": {**OUTPUT, "sql": "SELECT at, n, n + 1 AS following, n - 1 AS before FROM a"}}},
            ["outputs.o.sql differs"],
        ),
    ],
)
def test_what_changed_is_told_key_by_key(
    before: dict[str, Any], after: dict[str, Any], told: list[str]
) -> None:
    assert changes(before, after) == told


def test_the_order_of_what_has_a_name_is_no_change() -> None:
    rules = [RULE, {**RULE, "name": "other"}]
    assert changes({"source": {"rules": rules}}, {"source": {"rules": rules[::-1]}}) == []
