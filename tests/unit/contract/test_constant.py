from __future__ import annotations

import pytest

from headgate.contract.constant import constant_parts
from headgate.contract.sql import parse_output, parse_rule, to_sql

COLUMNS = ["value", "at", "xs"]


def _rule(text: str) -> list[str]:
    node = parse_rule(text, COLUMNS)
    assert not isinstance(node, list), node
    return [to_sql(part) for part in constant_parts(node)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("value > CAST('abc' AS INT)", ["CAST('abc' AS INT)"]),
        ("value > 10 / 0", ["10 / 0"]),
        ("value + 1 > 2", []),
        ("value > 2", []),
        ("at < DATE '2026-01-01'", ["CAST('2026-01-01' AS DATE)"]),
        ("value BETWEEN 1 + 1 AND 2 * 3", ["1 + 1", "2 * 3"]),
        ("CAST(value AS INT) > 1", []),
        ("exists(xs, x -> x + 1 > 5)", []),
        ("exists(xs, x -> x > CAST('a' AS INT))", ["CAST('a' AS INT)"]),
        ("aggregate(xs, 0, (acc, x) -> acc + x) > 5", []),
        ("size(sequence(1, 1000000000 * 2)) > value", ["1000000000 * 2"]),
        ("length(repeat('x', 999999999)) + 1 > value", []),
        ("value > coalesce(CAST('a' AS INT), 1)", ["COALESCE(CAST('a' AS INT), 1)"]),
    ],
)
def test_the_largest_parts_without_a_column_that_can_fail(text: str, expected: list[str]) -> None:
    assert _rule(text) == expected


def test_clauses_are_not_values() -> None:
    query = parse_output(
        "SELECT window.start AS minute, count(*) AS n, CAST('x' AS INT) AS y FROM s "
        "WHERE value > 1 / 0 GROUP BY window(at, '1 minute')",
        ["s"],
    )
    assert not isinstance(query, list), query
    assert [to_sql(part) for part in constant_parts(query)] == ["CAST('x' AS INT)", "1 / 0"]
