"""Patterns that mean the same to Java and to RE2, and those of which that is not sure."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from headgate.arrow.regexes import like_pattern, re2_pattern


def found(pattern: str | None, text: str) -> bool:
    assert pattern is not None
    return bool(pc.match_substring_regex(pa.array([text]), pattern)[0].as_py())


@pytest.mark.parametrize(
    ("java", "text", "wanted"),
    [
        ("^[a-z]+$", "abc", True),
        ("^[a-z]+$", "abc\n", True),
        ("^[a-z]+$", "abc\r\n", True),
        ("^[a-z]+$", "abc\u2028", True),
        ("^[a-z]+$", "abc\n\n", False),
        ("^[a-z]+$", "x\nabc", False),
        ("b", "abc", True),
        ("a.c", "a\nc", False),
        ("a.c", "a\u0085c", False),
        ("a.c", "a😀c", True),
        ("[^a]", "\n", True),
        ("^x.y$", "x\ny", False),
        ("^x.y$", "xay\n", True),
        ("(ab|cd){2}", "abcd", True),
        ("[0-9]{2,3}-x?", "12-", True),
    ],
)
def test_patterns_that_are_translated(java, text, wanted):
    assert found(re2_pattern(java), text) is wanted


@pytest.mark.parametrize(
    "java",
    [
        r"\d",
        "a++",
        "*",
        "(?i)a",
        "(?=a)",
        "[a&&b]",
        "[^a]$",
        "^a|b",
        "a^b",
        "a$b",
        "(a",
        "[z-a]",
        r"a\$",
        "ä",
    ],
)
def test_patterns_that_are_not_surely_the_same_are_refused(java):
    assert re2_pattern(java) is None


@pytest.mark.parametrize(
    ("like", "text", "wanted"),
    [
        ("d-%", "d-001", True),
        ("d-%", "xd-001", False),
        ("%a_c%", "x\nabcx", True),
        ("_", "😀", True),
        ("_", "", False),
        ("a.c", "abc", False),
        ("%", "", True),
        ("a%\n", "a\n", True),
    ],
)
def test_like(like, text, wanted):
    assert found(like_pattern(like), text) is wanted


def test_like_with_escapes_is_refused():
    assert like_pattern("a\\%") is None
