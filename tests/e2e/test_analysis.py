"""What Spark's analysis says of contracts that were read without a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from contract_examples import contract_of
from spark_batch import judge, spark_session

from spark.analyze import analyze

if TYPE_CHECKING:
    from headgate.contract.model import Contract

__all__ = ["spark_session"]

pytestmark = pytest.mark.e2e

COLUMNS = [
    {"name": "at", "type": "timestamp"},
    {"name": "v", "type": "int"},
    {"name": "d", "type": "double"},
    {"name": "s", "type": "string"},
    {"name": "day", "type": "date"},
    {"name": "xs", "type": "array<int>"},
    {"name": "texts", "type": "array<string>"},
    {"name": "st", "type": "struct<n:int>"},
]
EVENT_TIME = {"column": "at", "watermark": "1 minute"}


def contract(
    sql: str | None = None, rule: str | None = None, mode: str = "append", **source: Any
) -> Contract:
    rules = [] if rule is None else [{"name": "fine", "expect": "v > CAST('1' AS INT)"}]
    rules += [] if rule is None else [{"name": "tried", "expect": rule}]
    output = {"sql": sql or "SELECT _offset FROM a", "to": [{"delta": "o"}], "mode": mode}
    if mode == "update":
        output["key"] = ["k"]
    one = {"topic": "t", "columns": COLUMNS, "event_time": EVENT_TIME, "rules": rules, **source}
    return contract_of({"a": one}, {"o": output})


def places(found: dict[str, Any]) -> list[list[str | int]]:
    return [problem["at"] for problem in found["problems"]]


RULE = ["sources", "a", "rules", 1, "expect"]
SQL = ["outputs", "o", "sql"]


def test_constants_that_cannot_be_computed_are_problems_of_the_contract_in_their_place(spark_session):
    good = contract("SELECT v, try_cast('x' AS INT) AS x FROM a", rule="v > 1")
    assert analyze(spark_session, good)["problems"] == []
    found = analyze(spark_session, contract(rule="v > CAST('abc' AS INT)"))
    assert places(found) == [RULE]
    assert "CAST('abc' AS INT)" in found["problems"][0]["message"]
    assert places(analyze(spark_session, contract("SELECT 2147483647 + 1 AS x FROM a"))) == [SQL]
    # The session of an analysis judges as a driver's does.
    assert spark_session.conf.get("spark.sql.ansi.enabled") == "false"


@pytest.mark.parametrize(
    "rule",
    ["s > 5", "s + 1 > 2", "hour(s) > 3", "s = 5", "at > s", "day = s", "at = 'today'",
     "at > 'never'", "exists(texts, x -> x > 5)", "v"],
)  # fmt: skip
def test_a_rule_in_which_spark_would_read_text_by_itself_is_refused_in_its_place(spark_session, rule):
    assert places(analyze(spark_session, contract(rule=rule))) == [RULE]


@pytest.mark.parametrize(
    "rule",
    [
        "at > '2026-01-01'",
        "day = '2026-01-01' AND s LIKE 'today%'",
        "CAST(s AS INT) > 5",
        "to_date(s) > day AND to_timestamp(s) > at AND to_timestamp(s, 'yyyy') > at",
        "try_to_timestamp(s) IS NULL OR date(s) = day",
        "coalesce(s, 1) = 'x' AND concat(s, v) <> ''",
        "exists(xs, x -> x + 1 > 5) AND forall(texts, x -> CAST(x AS INT) > 5)",
        "st.n + 1 > 0",
        "s IN (1, 2)",  # compared as text
        "substring(s, 1, 2) = 'ab' OR date_trunc('hour', at) = at",
        "d * 2.5 > v / 3",
    ],
)
def test_a_rule_that_says_how_text_is_read_is_taken(spark_session, rule):
    assert analyze(spark_session, contract(rule=rule))["problems"] == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT avg(s) AS x FROM a GROUP BY at",
        "SELECT sum(s) AS x FROM a GROUP BY at",
        "SELECT v FROM a WHERE s > 5",
        "WITH c AS (SELECT s FROM a) SELECT hour(s) AS h FROM c",
    ],
)
def test_an_output_in_which_spark_would_read_text_by_itself_is_refused(spark_session, sql):
    found = analyze(spark_session, contract(sql, mode="append"))
    assert places(found) == [SQL]
    assert "NULL in silence" in found["problems"][0]["message"]


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ("s BETWEEN 1 AND 5", "the text `s` as int here"),
        ("concat(s, s) BETWEEN 1 AND 5", "the text `concat(s, s)` as int here"),
        ("s > 5", "the text `s` as int here"),
    ],
)
def test_the_text_that_spark_would_read_is_named_as_it_was_written(spark_session, rule, named):
    """Spark looks at what is BETWEEN once, under a name of its own."""
    (problem,) = analyze(spark_session, contract(rule=rule))["problems"]
    assert named in problem["message"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT at AS k, try_avg(v) * 2 AS x, CAST(try_sum(v) AS INT) AS y FROM a GROUP BY at",
        "SELECT window.start AS k, CAST(window(at, '1 minute').start AS STRING) AS w, sum(v * 2) AS x "
        "FROM a GROUP BY window(at, '1 minute')",
        "SELECT at AS k, max_by(v, CAST(s AS INT)) AS x, sum(v) FILTER (WHERE CAST(s AS INT) > 1) AS y "
        "FROM a GROUP BY at",
        "SELECT at AS k, CAST(s AS INT) + count(*) AS x FROM a GROUP BY at, s HAVING CAST(s AS INT) > 1",
        "WITH c AS (SELECT at, CAST(s AS INT) AS i FROM a) SELECT at AS k, sum(i) AS x FROM c GROUP BY at",
        "SELECT q.at AS k, sum(q.i) AS x FROM (SELECT at, a.st.n * 2 AS i FROM a) q GROUP BY q.at",
        "SELECT at AS k, count(*) AS n FROM a GROUP BY at HAVING n / 2 > 1",
    ],
)
def test_conditions_of_grouped_outputs_are_ones_that_a_driver_can_screen_with(spark_session, sql):
    assert analyze(spark_session, contract(sql, mode="update"))["problems"] == []


def test_an_output_that_uses_a_column_it_computed_has_the_condition_of_both(spark_session):
    columns = [{"name": "s", "type": "string"}, {"name": "xs", "type": "array<int>"}]
    sql = "SELECT CAST(s AS INT) AS i, i + 1 AS j, transform(xs, x -> x * 2) AS t FROM a"
    found = contract(sql, columns=columns, event_time=None)
    assert analyze(spark_session, found)["problems"] == []
    values = [
        b'{"s": "1", "xs": [1, null]}',
        b'{"s": "x"}',
        b'{"s": "2147483647"}',
        b'{"xs": [1, 2147483647]}',
        b"{}",
    ]
    judged = judge(spark_session, found, "a", values)
    assert [one.reasons for one in judged] == [(), *(("_compute_o",) for _ in range(3)), ()]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        (r"(?<status_code>\d+) (?P<time>\w+)", None),
        (r"(?P<q>['x]).*(?P=q)", None),
        (r"(?<time>a)(?(1)b|c)", "Java cannot read this pattern"),
        (r"(?<time>[a[b](c)])", "Java finds 1 groups in this pattern, and Python 2"),
    ],
)
def test_patterns_are_held_against_java(spark_session, pattern, says):
    names = [name for name in ("status_code", "time", "q") if f"<{name}>" in pattern]
    columns = [{"name": name, "type": "string"} for name in names]
    given = contract(format="text", pattern=pattern, columns=columns, event_time=None)
    found = analyze(spark_session, given)
    assert places(found) == ([] if says is None else [["sources", "a", "pattern"]])
    if says is not None:
        assert says in found["problems"][0]["message"]
        return
    (line,) = judge(spark_session, given, "a", [b"x404 nowx"])
    wanted = {"status_code": "404", "time": "nowx", "q": "x"}
    assert {name: line.row[name] for name in names} == {name: wanted[name] for name in names}


@pytest.mark.parametrize("pattern", ["YYYY-MM-DD", "yyyy-MM-dd bbb", "qq yyyy", "yyyy-MM-dd'T"])
@pytest.mark.parametrize("kind", ["timestamp", "date"])
def test_a_format_that_no_time_can_be_read_with_is_told(spark_session, pattern, kind):
    columns = [{"name": "at", "type": kind, "format": pattern}]
    found = analyze(spark_session, contract(columns=columns, event_time=None))
    assert places(found) == [["sources", "a", "columns", 0, "format"]]


def test_formats_that_can_be_read_are_taken(spark_session):
    columns = [
        {"name": "a1", "type": "timestamp", "format": "dd/MMM/yyyy:HH:mm:ss Z"},
        {"name": "a2", "type": "timestamp", "format": "MMM d HH:mm:ss", "default_year": 2026},
        {"name": "a3", "type": "timestamp", "format": "epoch_millis"},
        {"name": "a4", "type": "date", "format": "dd.MM.yyyy"},
    ]
    assert analyze(spark_session, contract(columns=columns, event_time=None))["problems"] == []


def test_a_contract_that_breaks_the_analysis_leaves_the_others_theirs(spark_session):
    from spark.analyze import analyzed

    good = contract().model_dump(mode="json", exclude_defaults=True)
    broken = {**good, "version": "none"}
    found = [analyzed(spark_session, item) for item in (broken, good)]
    assert [len(one["problems"]) for one in found] == [1, 0]
    odd = contract().model_copy(deep=True)
    watermark = odd.sources["a"].event_time.model_copy(update={"watermark": "1.5 minutes"})
    source = odd.sources["a"].model_copy(update={"event_time": watermark})
    found = analyze(spark_session, odd.model_copy(update={"sources": {"a": source}}))
    assert places(found) == [["sources", "a", "event_time"]]
