"""The rewriting as text. That Spark agrees is shown in tests/e2e/test_expressions.py."""

from __future__ import annotations

import pytest
from contract_examples import contract_of

from headgate.contract.compile import failure_conditions, failure_of, safe, safe_output, source_columns
from headgate.contract.model import Source
from headgate.contract.sql import output_facts, parse_output, parse_rule, to_sql

COLUMNS = ["a", "b", "s", "t", "flag", "xs"]


def parsed(text):
    node = parse_rule(text, COLUMNS)
    assert not isinstance(node, list), node
    return node


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b", "TRY_ADD(a, b)"),
        ("a - b", "TRY_SUBTRACT(a, b)"),
        ("a * b", "TRY_MULTIPLY(a, b)"),
        ("a / b", "TRY_DIVIDE(a, b)"),
        ("a % b", "TRY_MOD(a, b)"),
        ("a + b * 2", "TRY_ADD(a, TRY_MULTIPLY(b, 2))"),
        ("(a + 1) / (b - 1)", "TRY_DIVIDE((TRY_ADD(a, 1)), (TRY_SUBTRACT(b, 1)))"),
        ("CAST(s AS INT)", "TRY_CAST(s AS INT)"),
        ("s::int + 1", "TRY_ADD(TRY_CAST(s AS INT), 1)"),
        ("try_cast(s AS INT)", "TRY_CAST(s AS INT)"),
        ("try_divide(a, b)", "TRY_DIVIDE(a, b)"),
        ("1 + 2 * 3", "1 + 2 * 3"),
        ("a > 1 AND s LIKE '%x'", "a > 1 AND s LIKE '%x'"),
        ("CASE WHEN b = 0 THEN 0 ELSE a / b END", "CASE WHEN b = 0 THEN 0 ELSE TRY_DIVIDE(a, b) END"),
    ],
)
def test_operations_that_can_fail_take_their_safe_form(text, expected):
    assert to_sql(safe(parsed(text))) == expected


def test_making_an_expression_safe_leaves_it_as_it_was():
    node = parsed("a / b > CAST(s AS INT)")
    before = to_sql(node)
    once = to_sql(safe(node))
    assert to_sql(node) == before
    assert to_sql(safe(safe(node))) == once


@pytest.mark.parametrize(
    "text",
    [
        "a > 1",
        "s IS NOT NULL AND s <> ''",
        "a BETWEEN 1 AND b",
        "try_cast(s AS INT) > 0",
        "try_divide(a, b) > 0",
        "try_add(a, b) > 0",
        "1 / 0 > 0",
        "exists(xs, x -> x / 0 > 1)",
        "coalesce(s, 'x') = t",
        "CASE WHEN flag THEN 1 ELSE 2 END = 1",
        "-1 < a",
    ],
)
def test_what_cannot_fail_or_says_that_null_is_wanted_has_no_failure(text):
    assert failure_of(parsed(text)) is None


@pytest.mark.parametrize(
    "text",
    ["a / b", "a + 1", "CAST(s AS INT)", "a DIV b", "-a", "abs(a)", "to_timestamp(s, 'yyyy')"],
)
def test_what_can_fail_has_a_failure(text):
    assert failure_of(parsed(text)) is not None


def test_a_branch_that_is_not_taken_cannot_fail():
    sql = to_sql(failure_of(parsed("CASE WHEN b = 0 THEN 0 ELSE a / b END")))
    assert sql.startswith("CASE WHEN b = 0 THEN FALSE ELSE ")


def test_the_columns_that_sql_sees_say_where_a_record_is_from():
    origin = ["_key", "_topic", "_partition", "_offset", "_arrival"]
    columns = [{"name": "x", "type": "int"}]
    assert source_columns(Source.model_validate({"topic": "t", "columns": columns})) == ["x", *origin]
    text = Source.model_validate({"topic": "t", "format": "text"})
    assert source_columns(text) == ["line", *origin]


def conditions(rules=(), outputs=None):
    names = ["a", "b", "s"]
    columns = [{"name": n, "type": "string" if n == "s" else "int"} for n in names]
    return failure_conditions(
        contract_of({"in": {"topic": "t", "columns": columns, "rules": list(rules)}}, outputs), "in"
    )


def to(name, sql, **more):
    return {name: {"sql": sql, "to": [{"delta": name}], **more}}


def test_null_counts_as_a_broken_rule():
    ((name, sql),) = conditions([{"name": "r", "expect": "a > 0"}])
    assert (name, sql) == ("r", "NOT coalesce(a > 0, false)")


def test_reasons_come_in_the_contracts_order_rules_first():
    rules = [{"name": "z", "expect": "a > 0"}, {"name": "y", "expect": "b / a > 0"}]
    outputs = {**to("two", "SELECT a + 1 AS x FROM in"), **to("one", "SELECT b / a AS x FROM in")}
    names = [name for name, _ in conditions(rules, outputs)]
    assert names == ["z", "y", "_compute_two", "_compute_one"]


def test_an_output_of_which_nothing_can_fail_for_a_record_has_no_reason():
    for sql in (
        "SELECT a, s FROM in",
        "SELECT try_cast(s AS INT) AS x FROM in",
        "SELECT count(*) AS n FROM in GROUP BY a",
        "SELECT sum(a) / count(*) AS mean FROM in GROUP BY b",
    ):
        assert conditions(outputs=to("o", sql)) == [], sql


def test_the_arguments_of_an_aggregate_are_computed_per_record():
    ((name, sql),) = conditions(outputs=to("o", "SELECT b, sum(a * 2) AS x FROM in GROUP BY b"))
    assert name == "_compute_o"
    assert "TRY_MULTIPLY(a, 2)" in sql


def test_a_record_that_where_leaves_out_is_not_computed():
    ((_, sql),) = conditions(outputs=to("o", "SELECT a / b AS x FROM in WHERE b > 0"))
    assert sql.startswith("coalesce((b > 0) AND (")


def test_qualified_columns_are_the_records_own():
    ((_, sql),) = conditions(outputs=to("o", "SELECT i.a / i.b AS x FROM in AS i"))
    assert "TRY_DIVIDE(a, b)" in sql
    assert "i." not in sql


def test_the_sql_that_runs_is_the_safe_form():
    assert safe_output("SELECT a / b AS x, sum(a) AS y FROM in GROUP BY 1", ["in"]) == (
        "SELECT TRY_DIVIDE(a, b) AS x, TRY_SUM(a) AS y FROM in GROUP BY 1"
    )
    with pytest.raises(ValueError, match="there is no source"):
        safe_output("SELECT a FROM elsewhere", ["in"])


@pytest.mark.parametrize(
    ("sql", "sources", "window", "count"),
    [
        ("SELECT a FROM x", ("x",), 0.0, None),
        ("SELECT count(*) AS n FROM x GROUP BY window(t, '1 minute')", ("x",), 60.0, "n"),
        ("SELECT count(*) n FROM x GROUP BY window(t, '1 hour', '5 minutes')", ("x",), 3600.0, None),
        ("SELECT count(*) n FROM x GROUP BY session_window(t, '5 minutes')", ("x",), None, "n"),
        ("SELECT a, count(*) AS n FROM x GROUP BY ROLLUP (a)", ("x",), 0.0, None),
        ("SELECT a, count(*) AS n FROM x GROUP BY a WITH ROLLUP", ("x",), 0.0, None),
        ("SELECT a, count(*) AS n FROM x GROUP BY CUBE (a, b)", ("x",), 0.0, None),
        ("SELECT a, count(*) AS n FROM x GROUP BY a WITH CUBE", ("x",), 0.0, None),
        ("SELECT a, count(*) AS n FROM x GROUP BY GROUPING SETS ((a), ())", ("x",), 0.0, None),
        ("SELECT a, count(*) AS n FROM x GROUP BY a, GROUPING SETS ((b), ())", ("x",), 0.0, None),
        ("SELECT count(*) AS n FROM x WHERE a > 1 GROUP BY b", ("x",), 0.0, None),
        ("SELECT count(a) AS n FROM x GROUP BY b", ("x",), 0.0, None),
        ("SELECT x.a FROM y JOIN x ON x.a = y.a", ("x", "y"), 0.0, None),
        ("SELECT count(*) AS n FROM (SELECT DISTINCT a FROM x) GROUP BY a", ("x",), 0.0, None),
    ],
)
def test_what_the_text_of_a_query_tells(sql, sources, window, count):
    query = parse_output(sql, ["x", "y"])
    assert not isinstance(query, list), query
    facts = output_facts(query, ["x", "y"])
    assert (facts.sources, facts.window_seconds, facts.count_column) == (sources, window, count)
