"""Patterns of text sources: Java regular expressions with named groups, as the driver runs them."""

from __future__ import annotations

import re

__all__ = ["PatternProblem", "group_numbers", "python_pattern"]

_GROUP_NAME = re.compile(r"\(\?P?<([A-Za-z][A-Za-z0-9_]*)>")


class PatternProblem(ValueError):
    """The pattern cannot be used, and why."""


def python_pattern(pattern: str) -> str:
    """The same pattern for Python's `re`: `(?<name>…)` becomes `(?P<name>…)`."""
    return _GROUP_NAME.sub(r"(?P<\1>", pattern)


def group_numbers(pattern: str) -> dict[str, int]:
    """Named groups with their numbers, which is what Spark's regexp functions take.

    Raises PatternProblem when the pattern is no regular expression or names no group.
    """
    try:
        compiled = re.compile(python_pattern(pattern))
    except re.error as error:
        raise PatternProblem(f"not a regular expression: {error}") from error
    if not compiled.groupindex:
        raise PatternProblem("the pattern names no group")
    return dict(compiled.groupindex)
