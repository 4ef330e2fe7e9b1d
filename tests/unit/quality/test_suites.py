from __future__ import annotations

from typing import Any

import pytest

from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.quality.suites import PlannedExpectation, suites

TYPES = {"ts": "timestamp", "level": "string", "n": "long", "x": "double", "f": "float", "d": "decimal(10,2)"}


def frozen(
    sql: str,
    *,
    columns: tuple[str, ...],
    rules: tuple[str, ...] = (),
    required: tuple[str, ...] = (),
    otherwise: str = "quarantine",
    expectations: list[dict[str, Any]] | None = None,
    event_time: str | None = None,
    delta: bool = True,
) -> FrozenContract:
    source: dict[str, Any] = {
        "topic": "t",
        "columns": [{"name": n, "type": t, "required": n in required} for n, t in TYPES.items()],
        "rules": [{"name": f"r{i}", "expect": r, "otherwise": otherwise} for i, r in enumerate(rules)],
    }
    if event_time:
        source["event_time"] = {"column": event_time}
    data: dict[str, Any] = {
        "headgate": 1,
        "pipeline": "p",
        "version": 1,
        "owner": "tests",
        "sources": {"a": source},
        "outputs": {"o": {"sql": sql, "to": [{"delta": "o"} if delta else {"redis": "o"}]}},
    }
    if expectations:
        data["quality"] = {"expectations": expectations}
    fields = [{"name": n, "type": TYPES.get(n, "long"), "nullable": True, "metadata": {}} for n in columns]
    output = ResolvedOutput(False, {"type": "struct", "fields": fields})
    return freeze(
        Contract.model_validate(data),
        topics={"a": "t"},
        replication=1,
        outputs={"o": output},
        env="local",
        headgate_version="0",
    )


def generated(sql: str, *columns: str, **values: Any) -> list[tuple[str, dict[str, Any]]]:
    found = suites(frozen(sql, columns=columns, **values)).get("o", [])
    assert all(each.severity == "warning" for each in found)
    return [(each.expect.removeprefix("ExpectColumnValuesTo"), dict(each.arguments)) for each in found]


def test_the_contracts_own_expectations_come_as_they_are() -> None:
    said = {"output": "o", "expect": "ExpectTableRowCountToBeBetween", "min_value": 1, "severity": "info"}
    found = suites(frozen("SELECT level FROM a", columns=("level",), expectations=[said]))
    expected = PlannedExpectation("ExpectTableRowCountToBeBetween", {"min_value": 1}, "info", "contract")
    assert found == {"o": [expected]}


def test_required_columns_and_the_event_time_that_survive_are_not_null() -> None:
    found = generated("SELECT ts AS at, level FROM a", "at", "level", required=("level",), event_time="ts")
    assert found == [("NotBeNull", {"column": "at"}), ("NotBeNull", {"column": "level"})]


def test_a_rule_that_compares_gives_the_bounds_and_the_null_that_gx_would_skip() -> None:
    found = generated("SELECT n FROM a", "n", rules=("n BETWEEN 1 AND 10",))
    assert found == [
        ("NotBeNull", {"column": "n"}),
        ("BeBetween", {"column": "n", "min_value": 1, "max_value": 10}),
    ]


@pytest.mark.parametrize(
    ("rule", "bounds"),
    [
        ("n > 0", {"min_value": 0, "strict_min": True}),
        ("0 <= n AND n < 100", {"min_value": 0, "max_value": 100, "strict_max": True}),
        ("(n >= -5) AND n >= -3", {"min_value": -3}),
        ("n <= 7 AND n < 7", {"max_value": 7, "strict_max": True}),
        ("n = 4", {"min_value": 4, "max_value": 4}),
    ],
)
def test_bounds_are_as_strict_as_the_rule(rule: str, bounds: dict[str, Any]) -> None:
    assert generated("SELECT n FROM a", "n", rules=(rule,))[1] == ("BeBetween", {"column": "n", **bounds})


def test_a_set_of_strings_is_a_set() -> None:
    found = generated("SELECT level FROM a", "level", rules=("level IN ('INFO', 'WARN')",))
    assert found[1] == ("BeInSet", {"column": "level", "value_set": ["INFO", "WARN"]})


@pytest.mark.parametrize(
    "rule",
    [
        "n IS NULL OR n > 0",
        "coalesce(n, 1) > 0",
        "NOT (n > 10)",
        "n > x",
        "length(level) > 3",
        "n <=> 3",
    ],
)
def test_a_rule_that_null_could_satisfy_gives_nothing(rule: str) -> None:
    assert generated("SELECT n, level FROM a", "n", "level", rules=(rule,)) == []


def test_a_rule_that_only_warns_gives_nothing() -> None:
    assert generated("SELECT n FROM a", "n", rules=("n > 0",), otherwise="warn") == []


def test_not_a_number_passes_a_lower_bound_in_spark_and_is_missing_in_pandas() -> None:
    assert generated("SELECT x FROM a", "x", rules=("x >= 0",)) == [
        ("BeBetween", {"column": "x", "min_value": 0})
    ]
    assert ("NotBeNull", {"column": "x"}) in generated("SELECT x FROM a", "x", rules=("x <= 9.5",))
    assert generated("SELECT x FROM a", "x", required=("x",)) == []


def test_numbers_that_spark_and_pandas_compare_in_other_widths_give_no_bounds() -> None:
    assert generated("SELECT f FROM a", "f", rules=("f < 0.1",)) == [("NotBeNull", {"column": "f"})]
    assert generated("SELECT d FROM a", "d", rules=("d < 0.1",)) == [("NotBeNull", {"column": "d"})]
    assert generated("SELECT n FROM a", "n", rules=("n < 0.5",)) == [("NotBeNull", {"column": "n"})]


def test_groups_keep_what_their_key_and_their_extremes_keep() -> None:
    sql = "SELECT level, min(n) AS least, max(n) AS most, sum(n) AS total FROM a GROUP BY level"
    found = generated(
        sql, "level", "least", "most", "total", rules=("n BETWEEN 1 AND 3",), required=("level",)
    )
    assert [arguments["column"] for _, arguments in found] == ["level", "least", "least", "most", "most"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT upper(level) AS level FROM a",
        "SELECT a.level FROM a LEFT JOIN a AS b ON a.n = b.n",
        "SELECT level FROM (SELECT level FROM a) AS b",
        "SELECT level, count(*) AS n FROM a GROUP BY level WITH ROLLUP",
        "SELECT level, count(*) AS n FROM a GROUP BY CUBE (level)",
        "SELECT struct(ts).level AS level FROM a",
    ],
)
def test_what_does_not_provably_pass_through_gives_nothing(sql: str) -> None:
    assert generated(sql, "level", "n", required=("level",), rules=()) == []


def test_a_column_of_a_window_is_not_the_records_column_of_that_name() -> None:
    sql = "SELECT window.level AS level, count(*) AS n FROM a GROUP BY window(ts, '1 minute')"
    assert generated(sql, "level", "n", required=("level",)) == []


def test_a_qualified_column_is_the_sources() -> None:
    assert generated("SELECT a.level FROM a", "level", required=("level",)) == [
        ("NotBeNull", {"column": "level"})
    ]


def test_what_the_contract_says_itself_is_not_generated_again() -> None:
    said = {"output": "o", "expect": "ExpectColumnValuesToNotBeNull", "column": "level"}
    contract = frozen("SELECT level FROM a", columns=("level",), required=("level",), expectations=[said])
    (only,) = suites(contract)["o"]
    assert (only.severity, only.origin) == ("critical", "contract")


def test_an_output_without_a_table_has_nothing_to_check() -> None:
    assert suites(frozen("SELECT level FROM a", columns=("level",), required=("level",), delta=False)) == {}
