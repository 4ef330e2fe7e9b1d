"""Where a problem is shown in a value that goes over several lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.contract.document import Document, read_document

TEXT = """\
outputs:
  block:
    sql: >-
      SELECT window.start AS minute,
        sum(orders.amont) AS a, min(amont_2) AS b
      FROM orders
    mode: update
  plain:
    sql: SELECT a,
      amont FROM orders
    mode: update
  line:
    sql: SELECT amont FROM orders
  last:
    sql: |
      SELECT
      amont FROM orders
"""


@pytest.fixture
def document(tmp_path: Path) -> Document:
    (tmp_path / "a.yaml").write_text(TEXT)
    found = read_document(tmp_path / "a.yaml", "a.yaml")
    assert isinstance(found, Document)
    return found


@pytest.mark.parametrize(
    ("output", "message", "place"),
    [
        ("block", "[UNRESOLVED_COLUMN] `amont` cannot be resolved. Did you mean [`orders`]?", (5, 20)),
        ("block", "`orders`.`AMONT` cannot be resolved", (5, 20)),
        ("block", "`amont_2` cannot be resolved", (5, 37)),
        ("plain", "`amont` cannot be resolved", (10, 7)),
        ("last", "`amont` cannot be resolved", (17, 7)),
        # Nothing named, or nothing of the value: where the value begins, as for a value on one line.
        ("block", "it cannot be resolved", (3, 10)),
        ("block", "`mode` cannot be resolved", (3, 10)),
        ("plain", "`mode` cannot be resolved", (9, 10)),
        ("line", "`amont` cannot be resolved", (13, 10)),
    ],
)
def test_a_problem_in_a_value_of_several_lines_is_shown_where_its_name_stands(
    document, output, message, place
):
    problem = document.problem(("outputs", output, "sql"), message)
    assert (problem.line, problem.column) == place
