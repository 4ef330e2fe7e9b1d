from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.same_rows import difference, same_rows

AT = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = st.lists(
    st.fixed_dictionaries({"key": st.integers(0, 5), "value": st.floats(allow_nan=False, width=32)})
)


@settings(deadline=None)
@given(ROWS, st.randoms())
def test_the_order_of_rows_does_not_matter(rows: list[dict[str, Any]], chance: Any) -> None:
    other = list(rows)
    chance.shuffle(other)
    assert same_rows(rows, other)


@settings(deadline=None)
@given(ROWS.filter(bool))
def test_a_row_that_is_missing_or_doubled_is_told(rows: list[dict[str, Any]]) -> None:
    assert "1 rows missing, 0 too many" in difference(rows[1:], rows)
    assert "0 rows missing, 1 too many" in difference([*rows, rows[0]], rows)


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        ({"v": 1.0}, {"v": 1.0 + 1e-12}, True),
        ({"v": 1.0}, {"v": 1.0 + 1e-6}, False),
        ({"v": 1e20}, {"v": 1e20 * (1 + 1e-10)}, True),
        ({"v": 0.0}, {"v": 1e-13}, True),
        ({"v": 1}, {"v": 2}, False),
        ({"v": None}, {"v": 0.0}, False),
        ({"v": float("nan")}, {"v": float("nan")}, True),
        ({"v": b"a"}, {"v": b"b"}, False),
        ({"v": AT}, {"v": AT.astimezone(ZoneInfo("Europe/Paris"))}, True),
        ({"v": AT}, {"v": AT + timedelta(microseconds=1)}, False),
        ({"v": [1.0, {"w": 2.0}]}, {"v": [1.0, {"w": 2.0 + 1e-13}]}, True),
        ({"v": "a"}, {"w": "a"}, False),
    ],
)
def test_numbers_are_compared_to_nine_digits_and_all_else_exactly(
    found: dict[str, Any], expected: dict[str, Any], same: bool
) -> None:
    assert same_rows([found], [expected]) is same
