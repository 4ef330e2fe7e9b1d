"""What the Arrow lane compiles of Spark SQL, held against Spark over the same rows, value by value."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import sqlglot
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from spark_batch import spark_session

from headgate.arrow.expressions import compile_expression
from headgate.arrow.kernels import Batch
from headgate.arrow.kinds import KINDS, Unsupported
from headgate.contract.compile import failure_of
from headgate.contract.safe import safe
from headgate.contract.sql import SPARK, parse_rule, to_sql

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["spark_session"]

pytestmark = pytest.mark.e2e

MAX, MIN, LONG_MAX, LONG_MIN = 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)
COLUMN_KINDS = {
    "i": "integer",
    "j": "integer",
    "l": "long",
    "d": "double",
    "e": "double",
    "f": "float",
    "s": "string",
    "t": "string",
    "b": "boolean",
    "ts": "timestamp",
}


def at(year: int, month: int = 1, micro: int = 0) -> datetime:
    return datetime(year, month, 1, 12, 0, 0, micro, tzinfo=UTC)


ROWS: list[tuple[Any, ...]] = [
    (1, 2, 3, 0.5, 2.0, 0.1, "a", "abc", True, at(2025)),
    (0, 0, 0, 0.0, 0.0, 0.0, "", "", False, at(1970)),
    (None, None, None, None, None, None, None, None, None, None),
    (MAX, 1, LONG_MAX, 1.7976931348623157e308, 10.0, 3.4028234663852886e38, "ABC", "a\n", True, at(9999)),
    (MIN, -1, LONG_MIN, -1.7976931348623157e308, -10.0, -1.5, " a ", "a\r\n", False, at(1, 2)),
    (MAX, None, LONG_MIN, -0.0, None, -0.0, "ä", "äbc", None, at(2025, 6, 1)),
    (None, 0, LONG_MAX, 5e-324, 0.0, 1.0, "😀", "a😀c", True, None),
    (-1, MIN, -1, -0.0, 0.0, None, "a%", "_", None, at(1969)),
    (7, 0, None, 9007199254740993.0, -0.0, 16777217.0, "x\ny", None, False, at(2025)),
    (0, MAX, 1, 1000.0, 1.0, 2.5, None, "abc", True, at(2025)),
    (-7, 3, -9, 0.1, 0.2, 0.3, "d-001", "d-1", True, at(2025, 12)),
    (1000, -3, 9007199254740993, 1000.0000001, 3.0, 0.7, "it's", "A", False, at(2024, 2)),
]


class Both:
    """The same rows for Spark and for Arrow."""

    def __init__(self, spark: SparkSession) -> None:
        columns = zip(*ROWS, strict=True)
        table = pa.table(
            {
                name: pa.array(values, KINDS[kind])
                for (name, kind), values in zip(COLUMN_KINDS.items(), columns, strict=True)
            }
        )
        # Behind a union Spark cannot compute the rows when it plans, as it would of a local table.
        self._frame = spark.createDataFrame(table).repartition(1).sortWithinPartitions("l").cache()
        known = self._frame.toArrow().combine_chunks()
        self._batch = Batch({name: known[name].combine_chunks() for name in COLUMN_KINDS}, known.num_rows)

    def check(self, texts: Sequence[str]) -> int:
        """All differences of the expressions that are compiled; how many those are."""
        compiled = []
        for sql in texts:
            try:
                node = compile_expression(sqlglot.parse_one(sql, read=SPARK), COLUMN_KINDS)
            except Unsupported:
                continue
            compiled.append((sql, node))
        if not compiled:
            return 0
        found = self._frame.selectExpr(*(f"{sql} AS c{n}" for n, (sql, _) in enumerate(compiled))).toArrow()
        wrong = []
        for number, (sql, node) in enumerate(compiled):
            wanted = found.column(number)
            computed = self._batch.filled(node.compute(self._batch))
            if node.kind in KINDS and wanted.type != KINDS[node.kind]:
                wrong.append((sql, "is of type", str(wanted.type), "and not", node.kind))
            pairs = zip(self._rows(), wanted.to_pylist(), computed.to_pylist(), strict=True)
            wrong += [(sql, row, "Spark", a, "Arrow", b) for row, a, b in pairs if repr(a) != repr(b)]
        assert not wrong, "\n".join(map(str, wrong[:20]))
        return len(compiled)

    def _rows(self) -> list[dict[str, Any]]:
        return pa.table(dict(self._batch.columns)).to_pylist()


@pytest.fixture(scope="module")
def both(spark_session) -> Both:
    return Both(spark_session)


def forms(text: str) -> list[str]:
    """An expression as the driver runs it, and the condition of its failure."""
    node = parse_rule(text, COLUMN_KINDS)
    assert not isinstance(node, list), (text, node)
    failure = failure_of(node)
    return [to_sql(safe(node)), *([to_sql(failure)] if failure is not None else [])]


CHOSEN = [
    "i > 0",
    "i >= j",
    "l > i",
    "l = 9007199254740993",
    "d > 0.1",
    "d = 0",
    "d <> -0.0",
    "d >= e",
    "d < l",
    "f > 0.1",
    "f = 16777217",
    "f <= i",
    "f = l",
    "s = 'a'",
    "s < t",
    "s >= 'ä'",
    "s > t OR b",
    "s <> ''",
    "ts > timestamp'2025-01-01 12:00:00'",
    "ts BETWEEN timestamp'2025-01-01T00:00:00+02:00' AND timestamp'2025-12-01 12:00:00'",
    "b = TRUE",
    "b <=> NULL",
    "i <=> j",
    "d <=> e",
    "s <=> t",
    "d / e <=> d / e",
    "NOT b",
    "b AND i > 0",
    "b OR i > 0",
    "NULL OR b",
    "i IS NULL",
    "i IS NOT NULL",
    "isnull(s)",
    "isnotnull(d)",
    "i BETWEEN j AND l",
    "NOT i BETWEEN -5 AND 5",
    "i IN (1, 7, NULL)",
    "i NOT IN (1, 7)",
    "l IN (1, 2147483648, -9)",
    "s IN ('a', 'ä', 'd-001')",
    "s NOT IN ('a', NULL)",
    "d IN (0, 0.1)",
    "f IN (0.1, 2.5)",
    "i + 1",
    "i - j",
    "i * j",
    "l + i",
    "l - 1",
    "d + e",
    "d * 10",
    "d - e",
    "d * e > e",
    "(d * 10) - (d * 10) = 0",
    "(d * 10) - (d * 10) > 1e300",
    "(d * 10) - (d * 10) <= (d * 10) - (d * 10)",
    "(d * 10) - (d * 10) < 5 OR d * 10 > 1",
    "i / j",
    "d / e",
    "l / 3",
    "d / 0.5",
    "i % j",
    "l % 3",
    "i % -1",
    "- i",
    "- d",
    "- l",
    "abs(i)",
    "abs(l)",
    "abs(d)",
    "-2147483648 < i",
    "CAST(i AS BIGINT)",
    "CAST(l AS INT)",
    "CAST(l AS DOUBLE)",
    "CAST(i AS DOUBLE) / 3",
    "CAST(f AS DOUBLE)",
    "length(s)",
    "length(t) = 3",
    "trim(s)",
    "trim(s) = 'a'",
    "s LIKE 'd-%'",
    "t LIKE '%b%'",
    "t LIKE '_'",
    "t LIKE 'a_c'",
    "s LIKE '%'",
    "s LIKE 'it''s'",
    "t LIKE 'a%'",
    "t RLIKE '^a$'",
    "t RLIKE '^[a-z]+$'",
    "s RLIKE '^d-[0-9]{3}$'",
    "t RLIKE 'a.c'",
    "s RLIKE '^x.y$'",
    "s RLIKE 'A|a'",
    "startswith(s, 'd-')",
    "endswith(t, 'c')",
    "contains(t, 'b')",
    "contains(t, '')",
    "coalesce(i, j, 5)",
    "coalesce(l, i)",
    "coalesce(d, 0.5)",
    "coalesce(s, t, '')",
    "CASE WHEN b THEN i WHEN i > 0 THEN j END",
    "CASE i WHEN 1 THEN 'one' WHEN 7 THEN 'seven' ELSE s END",
    "CASE WHEN b THEN i ELSE l END",
    "IF(b, d, i)",
    "IF(i > j, s, t)",
    "IF(b, NULL, i)",
]

# Of which Spark and the parser have different trees: a contract cannot say it, and none may be compiled.
IN_A_ROW = [
    "b = s LIKE 'a%'",
    "b = s RLIKE 'a'",
    "b = s < t",
    "b = i IN (1, 7)",
    "b = i BETWEEN j AND l",
    "s BETWEEN 'a' AND 'm' = b",
    "s LIKE 'a%' = b",
    "i > 0 AND b = s LIKE 'a%'",
]
BRACKETED = [
    "b = (s LIKE 'a%')",
    "b = (s RLIKE 'a')",
    "b = (s < t)",
    "(s BETWEEN 'a' AND 'm') = b",
    "(b = (s < t)) IS NULL",
]


def test_comparisons_in_a_row_are_refused_and_mean_the_same_in_parentheses(both):
    assert all(isinstance(parse_rule(text, COLUMN_KINDS), list) for text in IN_A_ROW)
    assert both.check(IN_A_ROW) == 0
    assert both.check([form for text in BRACKETED for form in forms(text)]) >= len(BRACKETED)


def test_the_expressions_of_usual_rules_are_compiled_and_mean_the_same(both):
    texts = [sql for text in CHOSEN for sql in forms(text)]
    not_compiled = []
    for sql in texts:
        try:
            compile_expression(sqlglot.parse_one(sql, read=SPARK), COLUMN_KINDS)
        except Unsupported as reason:
            not_compiled.append((sql, str(reason)))
    allowed = {"s LIKE 'it''s'"}  # two literals to the parser
    assert {sql for sql, _ in not_compiled} <= {form for text in allowed for form in forms(text)}, (
        not_compiled
    )
    both.check(texts)


def _joined(operators: Sequence[str], left: Any, right: Any) -> Any:
    return st.builds(lambda a, op, b: f"({a} {op} {b})", left, st.sampled_from(operators), right)


def _whole(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["i", "j", "l", "0", "1", "-7", "2147483647", "3000000000"])
    if depth == 0:
        return leaves
    number, boolean = _whole(depth - 1), _booleans(depth - 1)
    return st.one_of(
        leaves,
        _joined(["+", "-", "*", "%"], number, number),
        st.builds("(- {})".format, number),
        st.builds("abs({})".format, number),
        st.builds("length({})".format, st.sampled_from(["s", "t", "trim(s)"])),
        st.builds("CAST({} AS {})".format, number, st.sampled_from(["INT", "BIGINT"])),
        st.builds("CASE WHEN {} THEN {} ELSE {} END".format, boolean, number, number),
        st.builds("coalesce({}, {})".format, number, number),
    )


def _floats(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["d", "e", "f", "CAST(f AS DOUBLE)", "1e3", "d"])
    if depth == 0:
        return leaves
    number, whole = _floats(depth - 1), _whole(depth - 1)
    mixed = st.one_of(number, whole, st.sampled_from(["0.5", "0.1"]))
    return st.one_of(
        leaves,
        _joined(["+", "-", "*", "/"], number, mixed),
        _joined(["/"], whole, whole),
        st.builds("(- {})".format, number),
        st.builds("IF({}, {}, {})".format, _booleans(depth - 1), number, mixed),
    )


def _booleans(depth: int) -> st.SearchStrategy[str]:
    leaves = st.sampled_from(
        [
            "b",
            "(i > 0)",
            "(s IS NULL)",
            "(s LIKE 'a%')",
            "TRUE",
            "(s < t)",
            "(d IN (0, 0.5))",
            "(i NOT IN (1, NULL))",
        ]
    )
    if depth == 0:
        return leaves
    whole, number, boolean = _whole(depth - 1), _floats(depth - 1), _booleans(depth - 1)
    operators = ["=", "<", "<=", ">", ">=", "<>", "<=>"]
    return st.one_of(
        leaves,
        _joined(operators, whole, whole),
        _joined(operators, number, st.one_of(number, whole)),
        _joined(["AND", "OR", "<=>", "="], boolean, boolean),
        st.builds("(NOT {})".format, boolean),
        st.builds("({} IS NULL)".format, st.one_of(whole, number, boolean)),
        st.builds("({} BETWEEN {} AND {})".format, number, whole, number),
        st.builds("coalesce({}, {})".format, boolean, boolean),
    )


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.one_of(_booleans(2), _whole(2), _floats(2)), min_size=25, max_size=25))
def test_generated_expressions_mean_the_same(both, texts):
    from sqlglot import exp

    per_record = [text for text in texts if sqlglot.parse_one(text, read=SPARK).find(exp.Column) is not None]
    assert both.check([sql for text in per_record for sql in forms(text)]) >= len(per_record) // 3
