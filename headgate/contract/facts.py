"""What the text of a query tells about its rows: sources, how long an event time stays open, its count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlglot import exp

from headgate.contract.model import Source, seconds
from headgate.contract.sql import to_sql

__all__ = [
    "OutputFacts",
    "event_time_name",
    "is_column",
    "only_source",
    "open_seconds",
    "output_facts",
    "row_positions",
    "row_span",
]

_TRUNCATED = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0}


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """The sources of a query, and its record count where it has one."""

    sources: tuple[str, ...]
    count_column: str | None


def output_facts(query: exp.Select, sources: Iterable[str]) -> OutputFacts:
    used = {table.name for table in query.find_all(exp.Table)}
    return OutputFacts(
        sources=tuple(name for name in sources if name in used),
        count_column=_count_column(query),
    )


def event_time_name(source: Source) -> str | None:
    """The column that says when a record happened."""
    if source.event_time is None:
        return None
    return "_arrival" if source.event_time.arrival else source.event_time.column


def open_seconds(query: exp.Select, event_time: str, sources: Mapping[str, Source]) -> float | None:
    """How long after its event time a row can still change: the length of its window or of what it was cut
    to, 0 for the event time of the source itself, None when the text does not tell."""
    column = next((c for c in query.expressions if c.alias_or_name.lower() == event_time.lower()), None)
    if column is None:
        return None
    value = column.unalias()
    if _root(value) in {"window", "session_window"}:
        return _window_seconds(query)
    if isinstance(value, exp.TimestampTrunc):
        inner = _passed_through(value.this, query, sources)
        return _TRUNCATED.get(value.text("unit").lower()) if inner else None
    return 0.0 if _passed_through(value, query, sources) else None


def row_span(query: exp.Select, column: str, sources: Mapping[str, Source]) -> float | None:
    """For how long after the time in this column the event times of a row's records lie, 0 where they are
    that time itself. None when the text does not prove that they lie nowhere else."""
    source = only_source(query, sources)
    time = event_time_name(sources[source]) if source is not None else None
    found = next((c for c in query.expressions if c.alias_or_name.lower() == column.lower()), None)
    if time is None or found is None:
        return None
    value = found.unalias()
    if isinstance(value, exp.TimestampTrunc):
        return _TRUNCATED.get(value.text("unit").lower()) if is_column(value.this, time, query) else None
    if is_column(value, time, query):
        return 0.0
    if _root(value) != "window" or value.name.lower() != "start":
        return None
    windows = [f for f in query.find_all(exp.Anonymous) if f.name.lower() == "window"]
    over = all(f.expressions and is_column(f.expressions[0], time, query) for f in windows)
    return _window_seconds(query) if over else None


def row_positions(query: exp.Select, sources: Iterable[str]) -> dict[str, str]:
    """The columns that say which record a row is of: `_partition`, `_offset` and, where it is selected,
    `_topic`, each with its name in the output. Empty when the text does not prove it."""
    if only_source(query, sources) is None:
        return {}
    found = {
        name: str(column.alias_or_name)
        for name in ("_topic", "_partition", "_offset")
        for column in query.expressions
        if is_column(column.unalias(), name, query)
    }
    return found if {"_partition", "_offset"} <= found.keys() else {}


def _root(value: exp.Expr) -> str:
    """The name at the front of `window.start` and of `window(at, '1 minute').start`."""
    while isinstance(value, exp.Dot | exp.Paren):
        value = value.this
    name = value.parts[0].name if isinstance(value, exp.Column) else value.name
    return name.lower() if isinstance(value, exp.Column | exp.Anonymous) else ""


def _passed_through(value: exp.Expr, query: exp.Select, sources: Mapping[str, Source]) -> bool:
    """Whether it is the event time of the only source, as it was read."""
    source = only_source(query, sources)
    name = event_time_name(sources[source]) if source is not None else None
    return name is not None and is_column(value, name, query)


def only_source(query: exp.Select, sources: Iterable[str]) -> str | None:
    """The source of a query that reads one, and nothing else."""
    clause = query.args.get("from_")
    table = clause.this if clause is not None else None
    if not isinstance(table, exp.Table) or query.args.get("joins") or query.args.get("with_"):
        return None
    return table.name if table.name in sources else None


def is_column(value: exp.Expr, name: str, query: exp.Select) -> bool:
    """Whether it is this column of the only source, as it is."""
    if not isinstance(value, exp.Column) or value.name.lower() != name.lower():
        return False
    table = query.args["from_"].this
    return len(value.parts) == 1 or value.table.lower() == table.alias_or_name.lower()


def _window_seconds(query: exp.Select) -> float | None:
    """The length of the one fixed window a query groups by, None when it cannot be told."""
    windows = [f for f in query.find_all(exp.Anonymous) if f.name.lower() in {"window", "session_window"}]
    texts = {to_sql(f): f for f in windows}
    if len(texts) != 1 or next(iter(texts.values())).name.lower() == "session_window":
        return None
    arguments = next(iter(texts.values())).expressions
    if len(arguments) < 2 or not isinstance(arguments[1], exp.Literal):
        return None
    try:
        return seconds(arguments[1].name)
    except ValueError:
        return None


def _count_column(query: exp.Select) -> str | None:
    """The column that counts every record of the only source exactly once, where there is one."""
    if query.args.get("where") or query.args.get("having") or query.args.get("joins"):
        return None
    if query.args.get("distinct") or query.args.get("with_") or query.find(exp.Subquery, exp.Lateral):
        return None
    if query.find(exp.Rollup, exp.Cube, exp.GroupingSets, exp.Explode, exp.Limit, exp.Qualify):
        return None  # a record is in several groups, or some groups are left out
    arguments = [f.expressions for f in query.find_all(exp.Anonymous) if f.name.lower() == "window"]
    if any(len(found) != 2 for found in arguments):
        return None  # sliding windows count a record more than once
    for column in query.expressions:
        inner = column.this if isinstance(column, exp.Alias) else column
        if isinstance(inner, exp.Count) and isinstance(inner.this, exp.Star):
            return str(column.alias_or_name)
    return None
