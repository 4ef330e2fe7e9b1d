"""Patterns for RE2: they take out of a line what the pattern does itself; what may differ is refused."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.arrow.extraction import extraction
from headgate.arrow.kinds import Unsupported
from headgate.contract.text import python_pattern

ACCESS = (
    r'^(?<host>\S+) \S+ (?<user>\S+) \[(?<time>[^\]]+)\] "(?<method>[A-Z]+) (?<path>\S+)(?: HTTP/[\d.]+)?" '
    r"(?<status>\d{3}) (?<size>\d+|-)"
)
PATTERNS = [
    ACCESS,
    r"(?<time>\d{4}-\d\d-\d\d)(?:.*?\b(?<level>INFO|WARN(?:ING)?|ERROR)\b)?",
    r"(?<a>a+?)(?<b>a*)(?<c>b|ab|abc)?",
    r"(?<key>\w+)=(?<value>[^ ;]*)(?:;|$)",
    r"(?:x|(?<y>y)|z{2,3}?)(?<rest>.*)",
    r"\A\s*(?<word>[\w.-]+)\W(?<tail>\D*)\Z",
    r"(?<first>a|ab)(?<second>c|bcd)(?<third>d*)",
]
SIGNS = 'aabbcdxyz019 -=;.[]"/\tINFOERROR WARNING 2025-10-01 GET HTTP äß€😀'


def taken(pattern: str, line: str) -> dict[str, str | None]:
    made = extraction(pattern)
    found = pc.extract_regex(pa.array([line]), made.re2)[0].as_py()
    return {name: found[group] or None if found else None for name, group in made.groups.items()}


def by_python(pattern: str, line: str) -> dict[str, str | None]:
    # As Java: digits, words and spaces of ASCII.
    compiled = re.compile(python_pattern(pattern), re.ASCII)
    found = compiled.search(line)
    return {name: (found[name] or None) if found else None for name in compiled.groupindex}


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(PATTERNS), st.text(st.sampled_from(SIGNS), max_size=40))
def test_groups_take_what_the_pattern_takes_itself(pattern: str, line: str) -> None:
    if not extraction(pattern).ascii or line.isascii():
        assert taken(pattern, line) == by_python(pattern, line)


@settings(deadline=None)
@given(st.sampled_from(PATTERNS[1:]), st.data())
def test_lines_that_the_pattern_was_made_for_are_taken_apart_alike(pattern: str, data: st.DataObject) -> None:
    line = data.draw(st.from_regex(re.compile(python_pattern(pattern), re.ASCII)))
    if line.isascii() and not re.search(r"[\n\x0b\f\r]", line):
        assert taken(pattern, line) == by_python(pattern, line)


def test_brackets_may_stand_in_a_class_behind_a_backslash() -> None:
    assert taken(r"\[(?<a>[^\[\]&]+)\](?<b>[\]\[])?", "x [in]] y") == {"a": "in", "b": "]"}


def test_an_access_log_is_taken_apart() -> None:
    line = '10.0.0.1 - frank [10/Oct/2025:13:55:36 -0700] "GET /a?b=1 HTTP/1.0" 200 2326'
    assert taken(ACCESS, line) == {
        "host": "10.0.0.1",
        "user": "frank",
        "time": "10/Oct/2025:13:55:36 -0700",
        "method": "GET",
        "path": "/a?b=1",
        "status": "200",
        "size": "2326",
    }


@pytest.mark.parametrize("pattern", [r"(?<a>\w+)\b", r"\B(?<a>.)"])
def test_the_edge_of_a_word_is_sure_in_ascii_alone(pattern: str) -> None:
    assert extraction(pattern).ascii
    assert not extraction(r"(?<a>\w+) ").ascii


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(?<a>x)(?=y)", "only Java"),
        (r"(?<a>x)(?<!y)", "only Java"),
        (r"(?<a>x)(?P=a)", "only Java"),
        (r"(?<a>x++)", "only Java"),
        (r"(?<a>(?>x))", "only Java"),
        (r"(?<a>x)\1", "before a digit"),
        (r"(?<a>\101)", "before a digit"),
        (r"(?i)(?<a>x)", "flags"),
        (r"(?<a>(?i:x))", "flags"),
        (r"(?<a>x*)*", "may be empty"),
        (r"(?:(?<a>x)|y)+", "group in it"),
        (r"(?:x(?:|(?<a>y)))+", "group in it"),
        (r"(?<a>[a&&b])", "another one"),
        (r"(?<a>[a[])", "another one"),
        (r"(?<a>[[]x]])", "another one"),
        (r"(?<a>[^[]x]])", "another one"),
        (r"(?<a>[A-[]x]])", "another one"),
        (r"(?<a>[A-[b]])", "another one"),
        (r"(?<a>[]x])", "another one"),
        (r"(?<a>\[[a[]])", "another one"),
        (r"(?<a>x\b{g})", "brace"),
        (r"(?<a>[\W_])", "class in a class"),
        (r"(?<a>\v)", "control"),
        (r"(?<a>\n)", "control"),
        (r"(?<a>x{2000})", "more than 1000"),
        (r"(?<a>(?:x{999}){999})", "too large"),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_java_may_read_otherwise_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        extraction(pattern)
