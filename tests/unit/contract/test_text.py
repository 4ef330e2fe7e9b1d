from __future__ import annotations

import re

import pytest

from headgate.contract.text import PatternProblem, group_numbers, python_pattern


def test_groups_have_the_numbers_that_spark_takes():
    assert group_numbers(r"(?<time>\d+) (x|y) (?<level>\w+)") == {"time": 1, "level": 3}


def test_both_spellings_of_a_named_group_are_read():
    assert group_numbers(r"(?P<a>x)(?<b>y)") == {"a": 1, "b": 2}


def test_look_behinds_are_not_taken_for_groups():
    pattern = r"(?<=a)(?<!b)(?<name>c)"
    assert python_pattern(pattern) == r"(?<=a)(?<!b)(?P<name>c)"
    assert group_numbers(pattern) == {"name": 1}
    assert re.search(python_pattern(pattern), "ac")["name"] == "c"


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(?<time>\\d+", "not a regular expression"),
        ("(?<a>x)(?<a>y)", "not a regular expression"),
        ("[", "not a regular expression"),
        (r"\d+ (\w+)", "the pattern names no group"),
        ("", "the pattern names no group"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(pattern, says):
    with pytest.raises(PatternProblem, match=says):
        group_numbers(pattern)
