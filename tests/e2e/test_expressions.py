"""What the compiler says of an expression, held against Spark in ANSI mode, row by row.

Two statements: `failure_of` is true exactly for the rows for which Spark in ANSI mode raises; and the safe
form never raises, and gives Spark's result for every other row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from spark_batch import spark_session

from headgate.contract.compile import failure_of, safe
from headgate.contract.sql import parse_rule, to_sql

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["spark_session"]

pytestmark = pytest.mark.e2e

MAX, MIN = 2**31 - 1, -(2**31)
LONG_MAX, LONG_MIN = 2**63 - 1, -(2**63)
ROWS: list[tuple[Any, ...]] = [
    (1, 2, 3, "4", "5", True),
    (0, 0, 0, "0", "", False),
    (None, None, None, None, None, None),
    (MAX, 1, LONG_MAX, "2147483648", "x", True),
    (MIN, -1, LONG_MIN, "-2147483648", " 7 ", False),
    (MAX, None, LONG_MIN, "1e3", "1.5", None),
    (None, 0, LONG_MAX, "9223372036854775808", "-1", True),
    (-1, MIN, -1, "NaN", "0", None),
    (7, 0, None, "abc", None, False),
    (0, MAX, 1, None, "abc", True),
]
COLUMNS = "i int, j int, l bigint, s string, t string, b boolean"
NAMES = ["i", "j", "l", "s", "t", "b"]


def _joined(operators: Sequence[str], left: Any, right: Any) -> Any:
    return st.builds(lambda a, op, b: f"({a} {op} {b})", left, st.sampled_from(operators), right)


def _numbers(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["i", "j", "l", "0", "1", "2", "2147483647"])
    if depth == 0:
        return leaves
    number, text, boolean = _numbers(depth - 1), _texts(depth - 1), _booleans(depth - 1)
    return st.one_of(
        leaves,
        _joined(["+", "-", "*", "%", "DIV"], number, number),
        st.builds(
            "CAST({} AS {})".format, st.sampled_from(["s", "t"]) | text, st.sampled_from(["INT", "BIGINT"])
        ),
        st.builds("CAST({} AS {})".format, number, st.sampled_from(["TINYINT", "INT", "BIGINT"])),
        st.builds("(- {})".format, number),
        st.builds("abs({})".format, number),
        st.builds("CASE WHEN {} THEN {} ELSE {} END".format, boolean, number, number),
        st.builds(
            "CASE {} WHEN {} THEN {} WHEN {} THEN {} END".format, number, number, number, number, number
        ),
        st.builds("IF({}, {}, {})".format, boolean, number, number),
        st.builds("coalesce({}, {})".format, number, number),
        st.builds("length({})".format, text),
        st.builds("try_cast({} AS INT)".format, text),
    )


def _texts(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["s", "t", "'1'", "'x'"])
    if depth == 0:
        return leaves
    number, text = _numbers(depth - 1), _texts(depth - 1)
    return st.one_of(
        leaves,
        st.builds("CAST({} AS STRING)".format, number),
        st.builds("coalesce({}, {})".format, text, text),
        st.builds("upper({})".format, text),
    )


def _booleans(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["b", "(i > 0)", "(s IS NULL)", "(j = 0)", "TRUE", "FALSE"])
    if depth == 0:
        return leaves
    number, text, boolean = _numbers(depth - 1), _texts(depth - 1), _booleans(depth - 1)
    return st.one_of(
        leaves,
        _joined(["=", "<", ">=", "<>", "<=>"], number, number),
        _joined(["=", "<", "<=>"], text, text),
        _joined(["AND", "OR"], boolean, boolean),
        st.builds("(NOT {})".format, boolean),
        st.builds("({} IS NULL)".format, number),
        st.builds("({} IS NOT NULL)".format, number),
        st.builds("({} BETWEEN {} AND {})".format, number, number, number),
        st.builds("({} IN (1, 2, NULL))".format, number),
        st.builds("({} / {} > 1)".format, number, number),
        st.builds("CAST({} AS BOOLEAN)".format, st.sampled_from(["s", "t"])),
    )


class Oracle:
    """Spark's interpreter in ANSI mode, asked row by row: a query would only say that some row raises."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self.frame: DataFrame = spark.createDataFrame(ROWS, COLUMNS).coalesce(1).cache()
        self.frame.count()
        query = self.frame._jdf.queryExecution()
        self._rows = query.executedPlan().executeCollect()
        expressions = spark._jvm.org.apache.spark.sql.catalyst.expressions
        self._bind = expressions.BindReferences.bindReference
        # What some functions stand for is put in their place by this rule. The optimizer as a whole would
        # leave operations out whose results it can do without.
        rules = spark._jvm.org.apache.spark.sql.catalyst.optimizer
        self._replace = getattr(getattr(rules, "ReplaceExpressions$"), "MODULE$")
        spark.conf.set("spark.sql.legacy.duplicateBetweenInput", "true")
        self._attributes = getattr(expressions, "package").AttributeSeq(query.analyzed().output())  # noqa: B009

    def ask(self, text: str) -> list[tuple[bool, Any]]:
        """For each row whether the expression raises, and otherwise its result."""
        from pyspark.errors import PySparkException

        self._spark.conf.set("spark.sql.ansi.enabled", "true")
        try:
            analyzed = self.frame.selectExpr(f"{text} AS r")._jdf.queryExecution().analyzed()
            plan = self._replace.apply(analyzed)
            bound = self._bind(plan.expressions().head(), self._attributes, False)
            found: list[tuple[bool, Any]] = []
            for row in self._rows:
                try:
                    found.append((False, bound.eval(row)))
                except PySparkException:
                    found.append((True, None))
            return found
        finally:
            self._spark.conf.set("spark.sql.ansi.enabled", "false")


@pytest.fixture(scope="module")
def oracle(spark_session) -> Oracle:
    import logging

    # Each error that Spark raises, and here most do, would be logged with its whole context.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    return Oracle(spark_session)


def same(got: Any, wanted: Any) -> bool:
    """Whether a collected value is the interpreter's, which has times as numbers and texts as objects."""
    if isinstance(got, datetime):
        got = round(got.astimezone(UTC).timestamp() * 1_000_000)
    elif isinstance(got, date):
        got = (got - date(1970, 1, 1)).days
    elif isinstance(got, str):
        wanted = str(wanted)
    if isinstance(got, float) and math.isnan(got):
        return math.isnan(wanted)
    return bool(got == wanted)


def constant(text: str) -> bool:
    """Whether a part of it can fail and has no column: that is the author's, not a record's, and Spark
    would raise before it has seen a row."""
    from sqlglot import exp

    kinds = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.IntDiv, exp.Cast, exp.Neg, exp.Abs)
    node = parse_rule(text, NAMES)
    assert not isinstance(node, list), (text, node)
    return any(part.find(exp.Column) is None for part in node.find_all(*kinds))


def check(oracle: Oracle, texts: Sequence[str]) -> None:
    safe_forms, failures = [], []
    for text in texts:
        node = parse_rule(text, NAMES)
        assert not isinstance(node, list), (text, node)
        failure = failure_of(node)
        safe_forms.append(to_sql(safe(node)))
        failures.append("false" if failure is None else f"coalesce({to_sql(failure)}, false)")
    columns = [f"{sql} AS c{n}" for n, sql in enumerate([*safe_forms, *failures])]
    rows = oracle.frame.selectExpr(*columns).collect()  # must not raise
    for number, text in enumerate(texts):
        answers = oracle.ask(text)
        said = [bool(row[len(texts) + number]) for row in rows]
        wrong = [
            values for values, now, (raises, _) in zip(ROWS, said, answers, strict=True) if now != raises
        ]
        assert not wrong, (text, failures[number], wrong)
        wrong = [
            (values, row[number], wanted)
            for values, row, (raises, wanted) in zip(ROWS, rows, answers, strict=True)
            if not raises and not same(row[number], wanted)
        ]
        assert not wrong, (text, safe_forms[number], wrong)


@pytest.mark.parametrize(
    "text",
    [
        "i + 1",
        "l + i",
        "i - j",
        "l * l",
        "i / j",
        "i % j",
        "l DIV i",
        "l DIV j",
        "- i",
        "abs(l)",
        "CAST(s AS INT)",
        "CAST(s AS DOUBLE)",
        "CAST(l AS INT)",
        "CAST(s AS BOOLEAN)",
        "CAST(s AS TIMESTAMP)",
        "CAST(s AS DATE)",
        "j <> 0 AND i / j > 1",
        "j = 0 OR i / j > 1",
        "b AND CAST(s AS INT) > 1",
        "CASE WHEN j = 0 THEN 0 ELSE i DIV j END",
        "CASE WHEN CAST(s AS INT) > 1 THEN 1 WHEN i / j > 1 THEN 2 END",
        "coalesce(i, l DIV j)",
        "i BETWEEN j AND CAST(s AS INT)",
        "i + CAST(s AS INT)",
        "CAST(s AS INT) + i",
        "i % CAST(s AS INT)",
        "CAST(s AS INT) % i",
        "CAST(s AS INT) = CAST(t AS INT)",
        "CAST(s AS INT) <=> CAST(t AS INT)",
        "IF(b, CAST(s AS INT), i + 1)",
        "NOT (CAST(s AS INT) IS NULL)",
        "CAST(l AS STRING) = s",
        "transform(array(s, t), x -> CAST(x AS INT)) IS NULL",
        "transform(array(i, CAST(s AS INT)), x -> x + j) IS NULL",
        "b AND size(filter(array(i, j), x -> x * 2 > 1)) > 0",
    ],
)
def test_chosen_expressions_fail_where_spark_raises(oracle, text):
    check(oracle, [text])


EXPRESSIONS = st.one_of(_numbers(2), _booleans(2), _booleans(3)).filter(lambda text: not constant(text))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(EXPRESSIONS, min_size=8, max_size=8))
def test_generated_expressions_fail_where_spark_raises(oracle, texts):
    check(oracle, texts)
