"""JSON whose numbers stay what is written."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate import exact_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.decimals(allow_nan=False, allow_infinity=False),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_number_is_the_one_that_is_written(value):
    found = exact_json.number(str(value))
    assert Decimal(repr(found) if isinstance(found, float) else found) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1.50", 1.5), ("1e5", 1e5), ("0.1", 0.1), ("12345678901234567.89", Decimal("12345678901234567.89"))],
)
def test_what_a_float_says_is_a_float(text, expected):
    found = exact_json.number(text)
    assert (type(found), found) == (type(expected), expected)


def test_an_exponent_that_nothing_can_hold_is_no_number():
    with pytest.raises(ValueError, match="too large an exponent"):
        exact_json.loads(b"[1e99999999999999999999]")


@settings(deadline=None)
@given(JSON)
def test_what_was_written_is_read_as_the_same(value):
    for ensure_ascii in (False, True):
        text = exact_json.dumps(value, ensure_ascii=ensure_ascii)
        assert exact_json.loads(text) == _floats(value)


def _floats(value):
    """The same value as it comes back: a Decimal is a float where that says the same."""
    if isinstance(value, Decimal):
        text = str(value)
        whole = text.lstrip("-").isdecimal()
        return int(text) if whole else exact_json.number(text)
    if isinstance(value, dict):
        return {key: _floats(each) for key, each in value.items()}
    return [_floats(each) for each in value] if isinstance(value, list) else value


def test_without_a_decimal_it_is_written_as_ever():
    value = {"a": [1.5, "ä", None, float("nan")], "b": {"c": True}}
    assert exact_json.dumps(value) == json.dumps(value, ensure_ascii=False)
    assert exact_json.dumps(value, ensure_ascii=True) == json.dumps(value)
    with pytest.raises(TypeError):
        exact_json.dumps([Decimal(1), object()])
