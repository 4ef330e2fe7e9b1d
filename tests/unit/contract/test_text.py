from __future__ import annotations

import re

import pytest

from headgate.contract.text import PatternProblem, group_count, group_numbers, java_pattern, python_pattern


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
        ("(?<a>x{99999999999999})", "not a regular expression"),
        ("(" * 1900 + "(?<a>x)" + ")" * 1900, "nested too deeply"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(pattern, says):
    with pytest.raises(PatternProblem, match=says):
        group_numbers(pattern)


@pytest.mark.parametrize(
    ("pattern", "java"),
    [
        (r"(?<status_code>\d+) (?P<time>\w+)", r"(\d+) (\w+)"),
        (r"(?P<q>['\"])(?P=q)1", r"(['\"])(?:\1)1"),
        (r"\(?<a>(?<b>x)", r"\(?<a>(x)"),
        (r"[(?<a>](?<b>x)", r"[(?<a>](x)"),
        (r"(?<=a)(?<!b)(?:x)(?<name>c)", r"(?<=a)(?<!b)(?:x)(c)"),
    ],
)
def test_spark_gets_the_pattern_without_names_and_with_the_same_numbers(pattern, java):
    assert java_pattern(pattern) == java
    assert re.compile(java).groups == group_count(pattern)
