"""Patterns of text sources: regular expressions with named groups that Python and Java both read."""

from __future__ import annotations

import re

__all__ = ["PatternProblem", "group_count", "group_numbers", "java_pattern", "python_pattern"]

# An escaped character and a class are passed over as a whole: what looks like a group in them is none.
_PARTS = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?P?<(?P<group>[A-Za-z]\w*)>|\(\?P=(?P<again>\w+)\)", re.DOTALL
)


class PatternProblem(ValueError):
    """The pattern cannot be used, and why."""


def python_pattern(pattern: str) -> str:
    """The same pattern for Python's `re`: `(?<name>…)` becomes `(?P<name>…)`."""
    return _PARTS.sub(lambda part: f"(?P<{part['group']}>" if part["group"] else part[0], pattern)


def java_pattern(pattern: str) -> str:
    """The same pattern for Java, whose names take no `_` and whose groups have the same numbers."""
    numbers = _compiled(pattern).groupindex

    def without_name(part: re.Match[str]) -> str:
        if part["again"]:
            return f"(?:\\{numbers[part['again']]})"
        return "(" if part["group"] else part[0]

    return _PARTS.sub(without_name, pattern)


def group_numbers(pattern: str) -> dict[str, int]:
    """Named groups with their numbers, which is what Spark's regexp functions take.

    Raises PatternProblem when the pattern is no regular expression or names no group.
    """
    compiled = _compiled(pattern)
    if not compiled.groupindex:
        raise PatternProblem("the pattern names no group")
    return dict(compiled.groupindex)


def group_count(pattern: str) -> int:
    return _compiled(pattern).groups


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(python_pattern(pattern))
    except RecursionError as error:
        raise PatternProblem("not a regular expression: nested too deeply") from error
    except (re.error, OverflowError) as error:
        raise PatternProblem(f"not a regular expression: {error}") from error
