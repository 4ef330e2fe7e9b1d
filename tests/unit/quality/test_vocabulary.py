from __future__ import annotations

from pathlib import Path

import pytest

from headgate.contract.frozen import ResolvedOutput, freeze
from headgate.contract.loader import load_contract
from headgate.errors import Problem
from headgate.quality.vocabulary import column_problems, expectation_problems

CONTRACT = """\
headgate: 1
pipeline: p
version: 1
owner: tests
sources:
  a: {{topic: t, columns: [{{name: n, type: long}}]}}
outputs:
  o: {{sql: SELECT n FROM a, to: [{{delta: o}}]}}
quality:
  expectations:
    - {expectation}
"""
HERE = 11


def problems(folder: Path, text: str) -> list[Problem]:
    path = folder / "p.yaml"
    path.write_text(CONTRACT.format(expectation="{output: o, " + text + "}"), encoding="utf-8")
    return expectation_problems([load_contract(path)])


@pytest.mark.parametrize(
    "text",
    [
        "expect: ExpectColumnValuesToBeBetween, column: n, min_value: 1, strict_max: true, max_value: 2.5",
        "expect: ExpectColumnMaxToBeBetween, column: n, max_value: '2023-10-02T00:00:00+02:00'",
        "expect: ExpectColumnValuesToBeInSet, column: n, value_set: [1, 2.5]",
        "expect: ExpectTableRowCountToBeBetween, min_value: 1",
        "expect: ExpectCompoundColumnsToBeUnique, column_list: [n, n]",
        "expect: ExpectColumnValuesToNotBeNull, column: n, mostly: 0.9, description: because",
        "expect: ExpectColumnQuantileValuesToBeBetween, column: n, "
        "quantile_ranges: {quantiles: [0.5], value_ranges: [[1, null]]}",
    ],
)
def test_what_great_expectations_takes_is_no_problem(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("expect: ExpectColumnValuesToNotBNull, column: n", "did you mean `ExpectColumnValuesToNotBeNull`?"),
        ("expect: ExpectQueryResultsToMatchComparison", "is not an expectation that can be checked"),
        ("expect: ExpectColumnValuesToNotBeNull", "needs `column`"),
        ("expect: ExpectColumnValuesToNotBeNull, column: null", "expected: text"),
        ("expect: ExpectColumnValuesToNotBeNull, colum: n", "did you mean `column`?"),
        ("expect: ExpectColumnValuesToNotBeNull, column: n, mostly: 7", "expected: a number from 0 to 1"),
        ("expect: ExpectColumnValuesToNotBeNull, column: n, mostly: true", "`mostly`"),
        ("expect: ExpectColumnValuesToBeBetween, column: n", "needs `min_value` or `max_value`"),
        ("expect: ExpectColumnMaxToBeBetween, column: n, max_value: soon", "a number or a moment"),
        (
            "expect: ExpectColumnValuesToBeInSet, column: n, value_set: []",
            "a list of text or a list of a number",
        ),
        ("expect: ExpectColumnValuesToBeInSet, column: n, value_set: [1, x]", "`value_set`"),
        ("expect: ExpectTableRowCountToBeBetween, min_value: many", "a whole number"),
        ("expect: ExpectColumnValuesToNotBeNull, column: n, row_condition: '@x'", "takes no `row_condition`"),
        ("expect: ExpectColumnValuesToNotBeNull, column: n, meta: {a: 1}", "takes no `meta`"),
    ],
)
def test_what_it_does_not_take_is_told_in_its_place(tmp_path: Path, text: str, told: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.line == HERE
    assert told in str(problem)


def test_a_column_that_the_output_lacks_is_told_with_the_likely_one(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    text = "{output: o, expect: ExpectCompoundColumnsToBeUnique, column_list: [n, m]}"
    path.write_text(CONTRACT.format(expectation=text), encoding="utf-8")
    loaded = load_contract(path)
    schema = {"type": "struct", "fields": [{"name": "n", "type": "long", "nullable": True, "metadata": {}}]}
    frozen = freeze(
        loaded.contract,
        topics={"a": "t"},
        replication=1,
        outputs={"o": ResolvedOutput(False, schema)},
        env="local",
        headgate_version="0",
    )
    (problem,) = column_problems([loaded], [frozen])
    assert "output `o` has no column `m`" in str(problem)
    assert problem.line == HERE
