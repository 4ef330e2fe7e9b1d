"""The rewriting as text. That Spark agrees is shown in tests/e2e/test_expressions.py."""

from __future__ import annotations

import sys

import pytest
from contract_examples import contract_of

from headgate.contract import compile as compile_module
from headgate.contract.compile import (
    failure_conditions,
    failure_of,
    output_problems,
    rule_problems,
    safe,
    safe_output,
    source_columns,
)
from headgate.contract.facts import open_seconds, output_facts
from headgate.contract.model import Source
from headgate.contract.sql import parse_output, parse_rule, to_sql

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
        "exists(xs, x -> x > 1)",
        "exists(xs, x -> try_divide(x, 0) > 1)",
        "CAST(a AS STRING) = s",
        "coalesce(s, 'x') = t",
        "CASE WHEN flag THEN 1 ELSE 2 END = 1",
        "-1 < a",
    ],
)
def test_what_cannot_fail_or_says_that_null_is_wanted_has_no_failure(text):
    assert failure_of(parsed(text)) is None


@pytest.mark.parametrize(
    "text",
    ["a / b", "a + 1", "CAST(s AS INT)", "a DIV b", "-a", "abs(a)", "to_timestamp(s, 'yyyy')"]
    + [f"{name}(xs, x -> x + 1 > 5)" for name in ("exists", "forall", "filter", "transform")],
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
    ("sql", "sources", "count"),
    [
        ("SELECT a FROM x", ("x",), None),
        ("SELECT count(*) AS n FROM x GROUP BY window(t, '1 minute')", ("x",), "n"),
        ("SELECT count(*) n FROM x GROUP BY window(t, '1 hour', '5 minutes')", ("x",), None),
        ("SELECT a, count(*) AS n FROM x GROUP BY ROLLUP (a)", ("x",), None),
        ("SELECT a, count(*) AS n FROM x GROUP BY a WITH ROLLUP", ("x",), None),
        ("SELECT a, count(*) AS n FROM x GROUP BY CUBE (a, b)", ("x",), None),
        ("SELECT a, count(*) AS n FROM x GROUP BY a WITH CUBE", ("x",), None),
        ("SELECT a, count(*) AS n FROM x GROUP BY GROUPING SETS ((a), ())", ("x",), None),
        ("SELECT a, count(*) AS n FROM x GROUP BY a, GROUPING SETS ((b), ())", ("x",), None),
        ("SELECT count(*) AS n FROM x WHERE a > 1 GROUP BY b", ("x",), None),
        ("SELECT count(a) AS n FROM x GROUP BY b", ("x",), None),
        ("SELECT x.a FROM y JOIN x ON x.a = y.a", ("x", "y"), None),
        ("SELECT count(*) AS n FROM (SELECT DISTINCT a FROM x) GROUP BY a", ("x",), None),
    ],
)
def test_what_the_text_of_a_query_tells(sql, sources, count):
    query = parse_output(sql, ["x", "y"])
    assert not isinstance(query, list), query
    facts = output_facts(query, ["x", "y"])
    assert (facts.sources, facts.count_column) == (sources, count)


@pytest.mark.parametrize(
    ("sql", "window"),
    [
        ("SELECT t FROM x", 0.0),
        ("SELECT y.t FROM x AS y", 0.0),
        ("SELECT T AS t, count(*) AS n FROM x GROUP BY t", 0.0),
        ("SELECT other AS t FROM x", None),
        ("SELECT t + INTERVAL 1 HOUR AS t FROM x", None),
        ("SELECT x.t FROM x JOIN y ON x.t = y.t", None),
        ("SELECT window.start AS t FROM x GROUP BY window(t, '1 minute')", 60.0),
        ("SELECT window(t, '1 minute').start AS t FROM x GROUP BY window(t, '1 minute')", 60.0),
        ("SELECT window.start AS t FROM x GROUP BY window(t, '1 hour', '5 minutes')", 3600.0),
        ("SELECT session_window.start AS t FROM x GROUP BY session_window(t, '5 minutes')", None),
        ("SELECT other AS t, window.start AS w FROM x GROUP BY window(t, '1 hour'), other", None),
        ("SELECT date_trunc('hour', t) AS t, count(*) AS n FROM x GROUP BY 1", 3600.0),
        ("SELECT date_trunc('month', t) AS t, count(*) AS n FROM x GROUP BY 1", None),
        ("SELECT date_trunc('hour', other) AS t, count(*) AS n FROM x GROUP BY 1", None),
    ],
)
def test_how_long_an_event_time_stays_open_is_known_for_plain_queries_alone(sql, window):
    query = parse_output(sql, ["x", "y"])
    assert not isinstance(query, list), query
    columns = [{"name": name, "type": "timestamp"} for name in ("t", "other")]
    source = Source.model_validate({"topic": "t", "columns": columns, "event_time": {"column": "t"}})
    assert open_seconds(query, "t", {"x": source, "y": source}) == window


COVERED = [
    "WITH c AS (SELECT CAST(s AS INT) AS i FROM in) SELECT i FROM c",
    "SELECT q.i FROM (SELECT CAST(s AS INT) AS i FROM in) q",
    "SELECT q.i FROM (SELECT a, CAST(s AS INT) AS i FROM in) q JOIN (SELECT b FROM in) p ON q.a = p.b",
    "SELECT max_by(a, CAST(s AS INT)) AS x FROM in",
    "SELECT corr(a, CAST(s AS INT)) AS x FROM in",
    "SELECT any(CAST(s AS INT) > 1) AS x, some(a > 1) AS y FROM in",
    "SELECT sum(a) FILTER (WHERE CAST(s AS INT) > 1) AS x FROM in",
    "SELECT CAST(s AS INT) + count(*) AS x FROM in GROUP BY s",
    "SELECT s FROM in GROUP BY s HAVING CAST(s AS INT) > 1",
    "SELECT a FROM in GROUP BY a, CAST(s AS INT)",
    "SELECT s AS t, CAST(t AS INT) AS i FROM in",
    "SELECT i.a FROM in AS i WHERE CAST(i.s AS INT) > 1",
]


@pytest.mark.parametrize("sql", COVERED)
def test_what_is_computed_of_one_record_has_a_condition_wherever_it_stands(sql):
    ((name, condition),) = conditions(outputs=to("o", sql))
    assert name == "_compute_o"
    assert "NOT (s) IS NULL AND (TRY_CAST(s AS INT)) IS NULL" in condition.replace("((s))", "(s)").replace(
        "((s) AS", "(s AS"
    )
    assert refusals(sql) == []


def test_a_filter_says_which_records_an_aggregate_computes():
    ((_, sql),) = conditions(outputs=to("o", "SELECT sum(a * 2) FILTER (WHERE b > 1) AS x FROM in"))
    assert sql.startswith("coalesce((b > 1) AND (")


def test_fields_of_a_struct_keep_their_struct():
    ((_, sql),) = conditions(outputs=to("o", "SELECT i.a.n + 1 AS x FROM in AS i"))
    assert "TRY_ADD(a.n, 1)" in sql


@pytest.mark.parametrize(
    ("sql", "operation"),
    [
        ("WITH c AS (SELECT s FROM in) SELECT CAST(s AS INT) AS i FROM c", "CAST(s AS INT)"),
        ("SELECT CAST(q.s AS INT) AS i FROM (SELECT s FROM in) q", "CAST(q.s AS INT)"),
        ("SELECT x.a + 1 AS i FROM in x JOIN in y ON x.a = y.a", "x.a + 1"),
        ("SELECT x.a FROM in x JOIN in y ON x.a = CAST(y.s AS INT)", "CAST(y.s AS INT)"),
        ("SELECT CAST(x AS INT) AS i FROM in LATERAL VIEW explode(a) t AS x", "CAST(x AS INT)"),
        ("SELECT a FROM in LATERAL VIEW explode(array(a / b)) t AS x", "a / b"),
        ("SELECT CAST(explode(a) AS INT) AS i FROM in", "CAST(EXPLODE(a) AS INT)"),
        ("SELECT x.a DIV x.b AS d FROM in x JOIN in y ON x.a = y.a", "x.a DIV x.b"),
        ("SELECT x.a FROM in x JOIN in y ON x.a < y.a + INTERVAL 99999 YEARS", "y.a + INTERVAL"),
        ("SELECT aggregate(a, 0, (x, y) -> x + y) AS i FROM in", "x + y"),
        ("SELECT transform(a, (x, i) -> x * i) AS i FROM in", "x * i"),
        ("SELECT CAST((SELECT max(a) FROM in) AS INT) AS i FROM in", "CAST((SELECT MAX(a) FROM in) AS INT)"),
        ("SELECT CAST(window.start AS INT) AS i FROM in GROUP BY window(a, '1 hour')", "CAST(window.start"),
        ("SELECT CASE WHEN count(*) > 1 THEN a / b END AS x FROM in GROUP BY a, b", "a / b"),
    ],
)
def test_what_can_fail_and_has_no_record_to_blame_is_refused_with_a_way_out(sql, operation):
    (problem,) = refusals(sql)
    assert problem.message.startswith(f"`{operation}")
    assert problem.help.startswith(("write try_", "write its try_ form"))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(a) / count(*) AS mean, CAST(try_sum(a) AS INT) AS t, try_avg(a) * 2 AS m FROM in",
        "SELECT CAST(window.start AS STRING) AS w, window.end - INTERVAL 1 MINUTE AS e FROM in "
        "GROUP BY window(a, '1 hour')",
        "SELECT CAST(window(a, '1 hour').start AS DATE) AS w FROM in GROUP BY window(a, '1 hour')",
        "SELECT b, count(*) AS n FROM in GROUP BY b HAVING n / 2 > 1",
        "SELECT x.a FROM in x JOIN in y ON x.b = y.b AND y.a BETWEEN x.a AND x.a + INTERVAL 1 HOUR",
        "SELECT try_cast(x.s AS INT) AS i FROM in x JOIN in y ON x.a = y.a",
    ],
)
def test_what_is_a_groups_or_says_that_null_is_wanted_has_no_condition_and_is_taken(sql):
    assert conditions(outputs=to("o", sql)) == []
    assert refusals(sql) == []


def refusals(sql):
    columns = [{"name": n, "type": "string" if n == "s" else "int"} for n in ("a", "b", "s")]
    return output_problems(sql, contract_of({"in": {"topic": "t", "columns": columns}}, to("o", sql)))


def rule_refusals(text):
    columns = [{"name": n, "type": "int"} for n in COLUMNS]
    return rule_problems(text, Source.model_validate({"topic": "t", "columns": columns}))


def test_a_rule_with_an_operation_in_a_lambda_of_which_no_element_can_be_named_is_refused():
    (problem,) = rule_refusals("aggregate(xs, 0, (acc, x) -> acc + x) > 5")
    assert problem.help.startswith("write try_add(acc, x)")
    assert rule_refusals("aggregate(xs, 0, (acc, x) -> try_add(acc, x)) > 5") == []
    assert rule_refusals("exists(xs, x -> x + 1 > 5)") == []


def test_an_operation_over_the_element_of_an_array_has_its_safe_form():
    assert to_sql(safe(parsed("exists(xs, x -> x + 1 > 5)"))) == "EXISTS(xs, x -> TRY_ADD(x, 1) > 5)"


def test_a_condition_that_grows_too_large_is_refused():
    product = " * ".join(["abcdefghij_abcdefghij_abcdefghij_abcdefghij"] * 55)
    columns = [{"name": "abcdefghij_abcdefghij_abcdefghij_abcdefghij", "type": "int"}]
    source = Source.model_validate({"topic": "t", "columns": columns})
    (problem,) = rule_problems(f"{product} > 1", source)
    assert "characters" in problem.message


def test_conditions_are_compiled_once(monkeypatch):
    rules = [{"name": "once", "expect": "a * 17 + b > 3"}]
    outputs = to("o", "SELECT a / (b + 17) AS x FROM in")
    first = conditions(rules, outputs)
    safe_output("SELECT a / (b + 17) AS x FROM in", ["in"])

    def never(*_):
        raise AssertionError("compiled again")

    for name in ("parse_rule", "parse_output"):
        monkeypatch.setattr(compile_module, name, never)
    assert conditions(rules, outputs) == first
    assert safe_output("SELECT a / (b + 17) AS x FROM in", ["in"])


@pytest.mark.parametrize(
    "shape", ["({} + a)", "coalesce({}, a / b)", "IF(flag, a / b, {})", "({} AND a / b > 1)", "abs({})",
              "CASE WHEN a / b > 1 THEN 1 ELSE {} END", "exists(xs, x -> {} > x + 1)"],
)  # fmt: skip
def test_what_the_limit_of_depth_lets_through_compiles_with_room_to_spare(shape):
    text = "a"
    while not isinstance(parse_rule(shape.format(text) + " IS NULL", COLUMNS), list):
        text = shape.format(text)
    assert text != "a"
    (problem,) = parse_rule(shape.format(text) + " IS NULL", COLUMNS)
    assert "deep" in problem.message
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before - 150)
    try:
        rule_refusals(f"{text} IS NULL")
    finally:
        sys.setrecursionlimit(before)


PLACES = """
    SELECT {} AS x FROM in
    SELECT DISTINCT {} AS x FROM in
    SELECT a FROM in WHERE {} IS NULL
    SELECT count(*) AS n FROM in GROUP BY {}
    SELECT count(*) AS n FROM in GROUP BY CUBE ({}, a)
    SELECT a FROM in GROUP BY a, b, s HAVING {} > 1
    SELECT sum({}) AS x FROM in
    SELECT count(DISTINCT {}) AS x FROM in
    SELECT max_by(a, {}) AS x FROM in
    SELECT percentile_approx(a, {}) AS x FROM in
    SELECT collect_list(named_struct('x', {})) AS x FROM in
    SELECT sum(a) FILTER (WHERE {} > 1) AS x FROM in
    SELECT a FROM in AS z WHERE EXISTS (SELECT b FROM in AS y WHERE {} > 1)
    SELECT a FROM in WHERE a IN (SELECT {} FROM in)
    SELECT x.a FROM in x LEFT JOIN in y ON {} = 1
    SELECT {} AS x FROM in y JOIN in x ON y.a = x.a
    SELECT {} AS x FROM (SELECT * FROM in) y
    SELECT x FROM (SELECT {} AS x FROM in UNION ALL SELECT a FROM in) y
    WITH c AS (SELECT * FROM in) SELECT {} AS x FROM c
    WITH in AS (SELECT * FROM in) SELECT {} AS x FROM in
    SELECT x FROM in LATERAL VIEW explode(array({})) t AS x
    SELECT transform(array(1), (x, i) -> {}) AS x FROM in
    SELECT CASE WHEN count(*) > 1 THEN {} END AS x FROM in GROUP BY a, b, s
    SELECT a FROM in WHERE a > (SELECT max({}) FROM in)
    SELECT x FROM in JOIN LATERAL (SELECT {} AS x) ON true
""".strip().splitlines()


@pytest.mark.parametrize("place", [place.strip() for place in PLACES])
@pytest.mark.parametrize("operation", ["CAST(s AS INT)", "a / b", "a DIV b", "-a", "a + 1", "to_date(s)"])
def test_wherever_an_operation_can_fail_it_has_a_condition_or_is_refused(place, operation):
    sql = place.format(operation)
    parsed_query = parse_output(sql, ["in"])
    assert not isinstance(parsed_query, list), parsed_query
    assert conditions(outputs=to("o", sql)) or refusals(sql)
