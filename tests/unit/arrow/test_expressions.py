"""What is compiled, and that what is not known to mean the same is refused by its name."""

from __future__ import annotations

import pyarrow as pa
import pytest
import sqlglot

from headgate.arrow.expressions import compile_condition, compile_expression
from headgate.arrow.kernels import Batch
from headgate.arrow.kinds import Unsupported
from headgate.contract.sql import SPARK

KINDS = {"i": "integer", "l": "long", "d": "double", "s": "string", "b": "boolean", "ts": "timestamp"}
BATCH = Batch(
    {
        "i": pa.array([1, None, -(2**31)], pa.int32()),
        "l": pa.array([2**63 - 1, None, 0]),
        "d": pa.array([0.5, None, -0.0]),
        "s": pa.array(["a", None, ""]),
        "b": pa.array([True, None, False]),
        "ts": pa.array([0, None, 1], pa.timestamp("us", tz="UTC")),
    },
    3,
)


def computed(text: str) -> list[object]:
    node = compile_expression(sqlglot.parse_one(text, read=SPARK), KINDS)
    return list(BATCH.filled(node.compute(BATCH)).to_pylist())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("b OR NULL", [True, None, None]),
        ("b AND NULL", [None, None, False]),
        ("i IN (1, NULL)", [True, None, None]),
        ("try_add(l, 1)", [None, None, 1]),
        ("try_subtract(i, 1)", [0, None, None]),
        ("try_multiply(i, 2)", [2, None, None]),
        ("try_divide(i, d)", [2.0, None, None]),
        ("try_mod(i, -1)", [0, None, 0]),
        ("-i", [-1, None, -(2**31)]),
        ("d = 0", [False, None, True]),
        ("d IN (0)", [False, None, True]),
        ("TRUE", [True, True, True]),
        ("NULL", [None, None, None]),
        ("s LIKE ''", [False, None, True]),
        ("CASE WHEN b THEN 1 END", [1, None, None]),
        ("I > 0", [True, None, False]),
        ("b IS DISTINCT FROM TRUE", [False, True, True]),
        ("b IS NOT DISTINCT FROM NULL", [False, True, False]),
        ("d IN (0, 0.5)", [True, None, True]),
        ("d = 16777217", [False, None, False]),
    ],
)
def test_values_and_nulls(text, wanted):
    assert computed(text) == wanted


def test_a_condition_that_is_null_is_met():
    met = compile_condition("NOT b", KINDS)
    assert met(BATCH).to_pylist() == [False, True, True]


@pytest.mark.parametrize(
    "text",
    [
        "i > 0.5",
        "i + 1",
        "try_multiply(l, 2)",
        "CAST(s AS INT)",
        "CAST(d AS INT)",
        "s > 5",
        "ts > '2025-01-01'",
        "s NOT LIKE 'a%'",
        "s ILIKE 'a'",
        "s LIKE 'a' ESCAPE '/'",
        r"s RLIKE '\\d'",
        "upper(s) = 'A'",
        "concat(s, 'x') = 'ax'",
        "trim(BOTH 'x' FROM s) = 'a'",
        "b IS TRUE",
        "b < TRUE",
        "a > 1",
        "r.i > 1",
        "year(ts) > 2000",
        "s LIKE i",
        "i IN (l)",
        "12345678901234567890123 > i",
        "round(d, 2) > 1",
        "ts > timestamp'now'",
        "NULL = NULL",
        "NULL <=> NULL",
        "NULL < NULL",
        "NULL BETWEEN NULL AND NULL",
        "CASE NULL WHEN NULL THEN i END",
        "CAST(3000000000 AS INT)",
        "CAST(l AS INT)",
    ],
)
def test_what_is_not_known_to_mean_the_same_is_refused(text):
    with pytest.raises(Unsupported):
        compile_expression(sqlglot.parse_one(text, read=SPARK), KINDS)


# In Spark all comparisons share a level, from the left, and LIKE and its like come after them.
IN_A_ROW = [
    "b = s LIKE 'a%'",
    "b = s RLIKE 'a'",
    "b = s < 'm'",
    "b <> i IN (1, 2)",
    "b = i NOT IN (1, 2)",
    "b = i BETWEEN 1 AND 2",
    "s BETWEEN 'a' AND 'm' = b",
    "i IN (1, 2) = b",
    "s LIKE 'a%' = b",
    "s < 'm' = b",
    "b = NOT b",
    "i > 0 AND b = s LIKE 'a%'",
    "NOT b = s LIKE 'a%'",
    "CASE WHEN b = s LIKE 'a%' THEN 1 END",
]


@pytest.mark.parametrize("text", IN_A_ROW)
def test_comparisons_in_a_row_are_refused_for_spark_may_read_them_otherwise(text):
    with pytest.raises(Unsupported, match="put parentheses around"):
        compile_expression(sqlglot.parse_one(text, read=SPARK), KINDS)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("b = (s LIKE 'a%')", [True, None, True]),
        ("(s < 'm') = b", [True, None, False]),
        ("b = (i IS NULL)", [False, None, True]),
        ("(i > 0) IS NULL", [False, True, False]),
        ("NOT s LIKE 'a%'", [False, None, True]),
        ("b AND s LIKE 'a%' OR i = 1", [True, None, False]),
        ("try_cast(l AS INT)", [None, None, 0]),
    ],
)
def test_with_parentheses_both_read_the_same(text, wanted):
    assert computed(text) == wanted
