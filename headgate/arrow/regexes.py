"""Patterns of Java that RE2 finds in the same texts, and patterns of LIKE.

A small part of either language, in which both mean the same. RLIKE asks whether a pattern is found at all,
so that greed and the order of alternatives do not matter.
"""

from __future__ import annotations

import re

__all__ = ["like_pattern", "re2_pattern"]

# What ends a line for Java, whose `.` does not match it and whose `$` stands before the last one, too.
_LINE_END = r"\n\r\x{85}\x{2028}\x{2029}"
_PARTS = re.compile(
    r"(?P<open>\((?:\?:)?)|(?P<close>\))|(?P<or>\|)"
    r"|(?P<times>(?:[*+?]|\{[0-9]{1,2}(?:,(?:[0-9]{1,2})?)?\})\??)"
    r"|(?P<class>\[\^?(?:[A-Za-z0-9]-[A-Za-z0-9]|[A-Za-z0-9_ .:/,@#%+])+-?\])"
    r"|(?P<any>\.)|(?P<plain>[A-Za-z0-9_ :/,@#%='<>~!;-])"
)


def re2_pattern(java: str) -> str | None:
    """The same for RE2, or None where that is not sure."""
    first, last = java.startswith("^"), java.endswith("$")
    body = _translated(java[first : len(java) - last])
    if body is None or (last and "[^" in java):
        # A class that leaves signs out can match the `\r` of a `\r\n`, and there `$` differs.
        return None
    if (first or last) and "|" in body:
        return None
    end = rf"(?:\r\n|[{_LINE_END}])?\z" if last else ""
    pattern = (r"\A" if first else "") + body + end
    try:
        re.compile(java)
    except re.error:
        return None
    return pattern


def _translated(body: str) -> str | None:
    parts, place, repeatable = [], 0, False
    while place < len(body):
        found = _PARTS.match(body, place)
        if found is None:
            return None
        kind = str(found.lastgroup)
        if kind == "times" and not repeatable:
            return None  # `a++` and the like are Java's own
        parts.append(rf"[^{_LINE_END}]" if kind == "any" else found[0])
        repeatable = kind in {"close", "class", "any", "plain"}
        place = found.end()
    return "".join(parts)


def like_pattern(like: str) -> str | None:
    """A pattern of LIKE for RE2, which matches whole texts; None where it has escapes."""
    if "\\" in like:
        return None
    signs = {"%": ".*", "_": "."}
    return rf"(?s)\A{''.join(signs.get(sign, _quoted(sign)) for sign in like)}\z"


def _quoted(sign: str) -> str:
    return sign if sign.isalnum() or not sign.isascii() else f"\\x{ord(sign):02x}"
