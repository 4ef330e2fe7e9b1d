"""Reads the SQL of a contract and refuses what is not one SELECT (or one boolean) over its sources.

The parse is the allow-list: no other tables, no files, no statements, no functions that call Java, read
the environment, or answer differently when a batch is run again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.spark import Spark
from sqlglot.errors import SqlglotError

__all__ = ["SPARK", "OutputFacts", "SqlProblem", "output_facts", "parse_output", "parse_rule", "to_sql"]


class _Spark(Spark):
    """Spark SQL in which `window(…)` is a function; named windows are not streaming SQL anyway."""

    class Tokenizer(Spark.Tokenizer):
        KEYWORDS: ClassVar = {
            word: kind for word, kind in Spark.Tokenizer.KEYWORDS.items() if word != "WINDOW"
        }


SPARK = _Spark

# Functions that sqlglot has no class for and that are pure. What it has a class for is a known SQL
# function and allowed, but for those below.
_ALLOWED = frozenset(
    """
    array_append array_prepend array_compact array_except array_insert array_intersect array_join
    array_max array_min array_position array_remove array_repeat array_sort array_union arrays_overlap
    arrays_zip aggregate reduce forall zip_with map_concat map_entries map_filter map_from_entries
    map_keys map_values map_zip_with transform_keys transform_values map_contains_key named_struct
    bit_count bit_get bround cardinality char chr conv crc32 date_part e elt equal_null factorial
    find_in_set format_number format_string printf from_csv get get_json_object hash xxhash64 hypot
    ifnull nvl nvl2 inline isnotnull isnull json_array_length json_object_keys json_tuple left right
    levenshtein log1p expm1 luhn_check make_date make_dt_interval make_interval make_timestamp
    try_make_timestamp make_ym_interval mask nanvl negative positive overlay parse_url try_parse_url
    pmod regexp_count regexp_instr regexp_substr rint sentences sequence session_window shiftleft
    shiftright shuffle_hash split_part stack str_to_map struct substring_index timestamp_micros
    timestamp_millis timestamp_seconds to_binary to_char to_number try_to_binary try_to_number
    try_to_date try_to_timestamp to_unix_timestamp try_add try_subtract try_multiply try_divide try_mod
    try_sum try_avg try_element_at try_url_decode typeof unix_date unix_micros unix_millis unix_seconds
    url_decode url_encode validate_utf8 is_valid_utf8 make_valid_utf8 try_validate_utf8 weekday
    width_bucket window window_time bool_and bool_or every some any count_if max_by min_by first_value
    last_value skewness kurtosis regr_count approx_count_distinct approx_percentile percentile
    percentile_approx median mode bit_and bit_or bit_xor histogram_numeric grouping collect_list
    collect_set array_agg stddev stddev_pop stddev_samp var_pop var_samp variance corr covar_pop
    covar_samp convert_timezone from_utc_timestamp to_utc_timestamp rlike regexp ilike startswith
    endswith contains btrim ltrim rtrim position
    """.split()
)
# Known to sqlglot and refused: a batch that runs again must give the same rows, on any machine.
_NOT_DETERMINISTIC: tuple[type[exp.Expr], ...] = (
    exp.Rand,
    exp.Randn,
    exp.Randstr,
    exp.Uniform,
    exp.Shuffle,
    exp.Uuid,
    exp.Localtimestamp,
    exp.SessionUser,
    *(kind for kind in exp.ALL_FUNCTIONS if kind.__name__.startswith("Current")),
)
# Spark reads these words as times where it turns text into one: `CAST('now' AS TIMESTAMP)`.
_MOVING_TIME = re.compile(r"^\s*(now|today|tomorrow|yesterday)\b", re.IGNORECASE)
_KEEPS_TEXT: tuple[type[exp.Expr], ...] = (exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.In, exp.Case, exp.If)
_DETERMINISM_HELP = (
    "use a column, such as the event time or `_arrival`; a repeated batch must give the same rows"
)
_NOT_STREAMING: tuple[tuple[type[exp.Expr], str], ...] = (
    (exp.Order, "ORDER BY"),
    (exp.Limit, "LIMIT"),
    (exp.Offset, "OFFSET"),
    (exp.Window, "OVER (…)"),
    (exp.QueryTransform, "TRANSFORM … USING"),
    (exp.Hint, "a hint"),
    (exp.Into, "INTO"),
    (exp.Placeholder, "a parameter"),
    (exp.Parameter, "a parameter"),
    (exp.TableSample, "TABLESAMPLE"),
    (exp.Pivot, "PIVOT"),
)


@dataclass(frozen=True, slots=True)
class SqlProblem:
    message: str
    expected: str | None = None
    help: str | None = None


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """What the text of a query tells: its sources, and its window and record count where it has them."""

    sources: tuple[str, ...]
    window_seconds: float | None
    count_column: str | None


def to_sql(node: exp.Expr) -> str:
    return node.sql(dialect=SPARK)


def parse_rule(text: str, columns: Iterable[str]) -> exp.Expr | list[SqlProblem]:
    """One boolean over the columns of its source."""
    node = _parse_one(text)
    if isinstance(node, list):
        return node
    if isinstance(node, exp.Query | exp.Alias) or not isinstance(node, exp.Condition):
        return [SqlProblem("this is not a condition", "a Spark SQL boolean, such as `value > 0`")]
    problems = list(_forbidden(node))
    if node.find(exp.AggFunc):
        problems.append(SqlProblem("a rule looks at one record: aggregates are not possible", "a boolean"))
    if node.find(exp.Query):
        problems.append(SqlProblem("a rule cannot hold a subquery", "a boolean over the record's columns"))
    problems.extend(_unknown_columns(node, list(columns)))
    return problems or node


def parse_output(text: str, sources: Iterable[str]) -> exp.Select | list[SqlProblem]:
    """One SELECT (common table expressions included) over the contract's sources."""
    node = _parse_one(text)
    if isinstance(node, list):
        return node
    if not isinstance(node, exp.Select):
        return [
            SqlProblem(f"this is {_a_kind(node)}, not a SELECT", "one SELECT over the contract's sources")
        ]
    problems = list(_forbidden(node))
    known = list(sources)
    names = {cte.alias_or_name for cte in node.find_all(exp.CTE)}
    for table in node.find_all(exp.Table):
        plain = isinstance(table.this, exp.Identifier) and not table.db and not table.catalog
        if not plain:
            problems.append(SqlProblem(f"`{to_sql(table)}` is not a source", f"one of {', '.join(known)}"))
        elif table.name not in names and table.name not in known:
            problems.append(_unknown("source", table.name, known))
    if not problems and not any(table.name in known for table in node.find_all(exp.Table)):
        problems.append(SqlProblem("the query reads none of the sources", f"FROM {' or '.join(known)}"))
    return problems or node


def output_facts(query: exp.Select, sources: Iterable[str]) -> OutputFacts:
    used = {table.name for table in query.find_all(exp.Table)}
    return OutputFacts(
        sources=tuple(name for name in sources if name in used),
        window_seconds=_window_seconds(query),
        count_column=_count_column(query),
    )


def _parse_one(text: str) -> exp.Expr | list[SqlProblem]:
    try:
        statements = [node for node in sqlglot.parse(text, read=SPARK) if node is not None]
    except SqlglotError as error:
        details = getattr(error, "errors", None) or [{}]
        first = details[0]
        where = f"line {first['line']}, column {first['col']}: " if first.get("line") else ""
        what = first.get("description") or str(error).splitlines()[0]
        return [SqlProblem(f"not readable as Spark SQL: {where}{what}")]
    except RecursionError:
        return [SqlProblem("not readable as Spark SQL: nested too deeply")]
    if len(statements) != 1:
        return [SqlProblem(f"found {len(statements)} statements", "exactly one")]
    return statements[0]


def _forbidden(node: exp.Expr) -> Iterator[SqlProblem]:
    seen = set()
    for part in node.walk():
        problem = _forbidden_part(part)
        if problem is not None and problem not in seen:
            seen.add(problem)
            yield problem


def _forbidden_part(part: exp.Expr) -> SqlProblem | None:
    if isinstance(part, exp.Anonymous):
        name = part.name.lower()
        if name in {"now", "current_timestamp", "unix_timestamp", "shuffle", "monotonically_increasing_id"}:
            return SqlProblem(f"`{name}()` depends on when it runs", help=_DETERMINISM_HELP)
        if name not in _ALLOWED:
            return SqlProblem(f"the function `{name}` is not allowed", "a pure Spark SQL function")
    if (moving := _moving(part)) is not None:
        return SqlProblem(f"`{moving}` depends on when it runs", help=_DETERMINISM_HELP)
    if isinstance(part, exp.DDL | exp.DML | exp.Command) and not isinstance(part, exp.Query):
        return SqlProblem(f"`{part.key.upper()}` is a statement", "one SELECT over the contract's sources")
    for kind, words in _NOT_STREAMING:
        if isinstance(part, kind):
            return SqlProblem(f"{words} is not possible on a stream", "SELECT … FROM … WHERE … GROUP BY …")
    return None


def _moving(part: exp.Expr) -> str | None:
    """What a part that depends on the moment, the session or chance is called."""
    if isinstance(part, _NOT_DETERMINISTIC):
        return to_sql(part).lower()
    text = isinstance(part, exp.Literal) and part.is_string and _MOVING_TIME.match(part.name)
    return f"'{part.name}'" if text and not isinstance(part.parent, _KEEPS_TEXT) else None


def _unknown_columns(node: exp.Expr, columns: Sequence[str]) -> Iterator[SqlProblem]:
    lambdas = {str(x.name) for f in node.find_all(exp.Lambda) for x in f.expressions}
    known = {name.lower() for name in columns}
    for column in node.find_all(exp.Column):
        root = column.parts[0].name
        if root.lower() not in known and root not in lambdas:
            yield _unknown("column", root, columns)


def _unknown(what: str, name: str, known: Sequence[str]) -> SqlProblem:
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean `{close[0]}`?" if close else None
    return SqlProblem(f"there is no {what} `{name}`", f"one of {', '.join(known)}", hint)


def _a_kind(node: exp.Expr) -> str:
    return "a set operation" if isinstance(node, exp.SetOperation) else f"`{node.key.upper()}`"


def _window_seconds(query: exp.Select) -> float | None:
    """The length of the one fixed window a query groups by, 0 for none, None when it cannot be told."""
    from headgate.contract.model import seconds

    windows = [f for f in query.find_all(exp.Anonymous) if f.name.lower() in {"window", "session_window"}]
    texts = {to_sql(f): f for f in windows}
    if not texts:
        return 0.0
    if len(texts) > 1 or next(iter(texts.values())).name.lower() == "session_window":
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
