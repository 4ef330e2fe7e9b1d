"""What sqlglot says of SQL that it cannot parse, for whoever wrote it."""

from __future__ import annotations

import re

from sqlglot.errors import SqlglotError

__all__ = ["told"]

_SQLGLOTS_CLASS = re.compile(r"<class 'sqlglot\.[\w.]*?(\w+)'>")  # as its messages name a part of a query

# How its messages begin, and what they mean; `{at}` is the word that it stopped at.
_SQLGLOT_SAYS = (
    ("Required keyword: ", "something is missing after `{at}`"),
    ("Expected table name", "a source is missing after `{at}`"),
    ("Invalid expression", "`{at}` is not expected here"),
    ("Error tokenizing", "it breaks off, as where a quote is not closed"),
)
_EXPECTING = re.compile(r"Expecting (\S+)")


def told(error: SqlglotError) -> str:
    """Where in the SQL the parser stopped, in words for whoever wrote it."""
    first = (getattr(error, "errors", None) or [{}])[0]
    where = f"line {first['line']}, column {first['col']}: " if first.get("line") else ""
    said, at = first.get("description") or str(error).splitlines()[0], first.get("highlight") or "its end"
    for begin, text in _SQLGLOT_SAYS:
        if said.startswith(begin):
            return where + text.format(at=at)
    if expecting := _EXPECTING.fullmatch(said):
        return f"{where}`{expecting[1]}` is missing near `{at}`"
    return where + _SQLGLOTS_CLASS.sub(r"\1", said)
