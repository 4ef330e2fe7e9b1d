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
from sqlglot import TokenType, exp
from sqlglot.dialects.spark import Spark
from sqlglot.errors import SqlglotError

from headgate.contract.kinds import is_aggregate
from headgate.contract.precedence import comparisons_in_a_row
from headgate.contract.unreadable import told
from headgate.suggest import did_you_mean

__all__ = ["MAX_DEPTH", "SPARK", "SqlProblem", "parse_output", "parse_rule", "to_sql"]

# Every step over an expression goes down by calls, in Python as in Spark. A chain `a + b + c` is as deep as
# it has terms.
MAX_DEPTH = 60
MAX_NESTING = 25  # of parentheses and CASE, for each of which the parser itself goes down by twenty calls


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
# What people write most of what sqlglot knows: its own names for functions are of all dialects.
_USUAL = frozenset(
    """
    abs add_months array array_contains array_distinct avg base64 ceil coalesce concat concat_ws
    count date_add date_format date_sub date_trunc datediff day dayofmonth dayofweek dayofyear
    element_at exp explode first floor from_json from_unixtime greatest hex hour if initcap instr
    isnan last last_day least length ln log log10 lower lpad map max md5 min minute month
    months_between nullif pow power quarter regexp_extract regexp_replace repeat replace reverse
    round rpad second sha1 sha2 sign size sort_array split sqrt substring sum to_date to_json
    to_timestamp translate trim trunc unbase64 unhex upper weekofyear year
    """.split()
)
_KNOWN = sorted(_ALLOWED | _USUAL)
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
# Where that happens by the text alone. Where a column's type decides, Spark's analysis refuses such a word.
_READS_TIMES: tuple[type[exp.Expr], ...] = (
    exp.Cast,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
    exp.Between,
    *(kind for kind in exp.ALL_FUNCTIONS if re.search("Date|Time|Unix|Trunc|TsOrDs", kind.__name__)),
)
_TIME_WORDS = re.compile("date|time|unix|timestamp")
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
    if any(is_aggregate(part) for part in node.walk()):
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


def _parse_one(text: str) -> exp.Expr | list[SqlProblem]:
    try:
        if _nesting(text) > MAX_NESTING:
            return [
                SqlProblem(
                    "not readable as Spark SQL: nested too deeply",
                    f"at most {MAX_NESTING} levels of parentheses and CASE",
                )
            ]
        statements = [node for node in sqlglot.parse(text, read=SPARK) if node is not None]
    except SqlglotError as error:
        return [SqlProblem(f"not readable as Spark SQL: {told(error)}")]
    except RecursionError:
        return [SqlProblem("not readable as Spark SQL: nested too deeply")]
    if len(statements) != 1:
        return [SqlProblem(f"found {len(statements)} statements", "exactly one")]
    if (depth := _depth(statements[0])) > MAX_DEPTH:
        return [
            SqlProblem(
                f"the expression is nested {depth} levels deep; a chain such as `a + b + c` has one per term",
                f"at most {MAX_DEPTH}",
                "`IN (…)` for a chain of OR, concat_ws for a chain of ||",
            )
        ]
    return statements[0]


def _nesting(text: str) -> int:
    deepest = level = 0
    for token in sqlglot.tokenize(text, read=SPARK):
        if token.token_type in {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.CASE}:
            level += 1
        elif token.token_type in {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.END}:
            level = max(level - 1, 0)  # `window.end` closes nothing
        deepest = max(deepest, level)
    return deepest


def _depth(root: exp.Expr) -> int:
    deepest, level = 0, [root]
    while level:
        deepest += 1
        level = [child for node in level for child in node.iter_expressions()]
    return deepest


def _forbidden(node: exp.Expr) -> Iterator[SqlProblem]:
    seen = set()
    for part in node.walk():
        for problem in (_forbidden_part(part), _ambiguous(part)):
            if problem is not None and problem not in seen:
                seen.add(problem)
                yield problem


def _forbidden_part(part: exp.Expr) -> SqlProblem | None:
    if isinstance(part, exp.Anonymous):
        name = part.name.lower()
        if name in {"now", "current_timestamp", "unix_timestamp", "shuffle", "monotonically_increasing_id"}:
            return SqlProblem(f"`{name}()` depends on when it runs", help=_DETERMINISM_HELP)
        if name not in _ALLOWED:
            meant = did_you_mean(name, _KNOWN)
            return SqlProblem(f"the function `{name}` is not allowed", "a pure Spark SQL function", meant)
    if (moving := _moving(part)) is not None:
        return SqlProblem(f"`{moving}` depends on when it runs", help=_DETERMINISM_HELP)
    if isinstance(part, exp.DDL | exp.DML | exp.Command) and not isinstance(part, exp.Query):
        return SqlProblem(f"`{part.key.upper()}` is a statement", "one SELECT over the contract's sources")
    for kind, words in _NOT_STREAMING:
        if isinstance(part, kind):
            return SqlProblem(f"{words} is not possible on a stream", "SELECT … FROM … WHERE … GROUP BY …")
    return None


def _ambiguous(part: exp.Expr) -> SqlProblem | None:
    for operand in comparisons_in_a_row(part):
        return SqlProblem(
            f"`{to_sql(part)}` has comparisons in a row, which can be read in two ways",
            f"parentheses around what belongs together, such as `({to_sql(operand)})`",
        )
    return None


def _moving(part: exp.Expr) -> str | None:
    """What a part that depends on the moment, the session or chance is called."""
    if isinstance(part, _NOT_DETERMINISTIC):
        return to_sql(part).lower()
    if not isinstance(part, exp.Literal) or not part.is_string or not _MOVING_TIME.match(part.name):
        return None
    reader = part.parent
    by_name = isinstance(reader, exp.Anonymous) and _TIME_WORDS.search(reader.name.lower())
    return f"'{part.name}'" if by_name or isinstance(reader, _READS_TIMES) else None


def _unknown_columns(node: exp.Expr, columns: Sequence[str]) -> Iterator[SqlProblem]:
    lambdas = {str(x.name) for f in node.find_all(exp.Lambda) for x in f.expressions}
    known = {name.lower() for name in columns}
    for column in node.find_all(exp.Column):
        root = column.parts[0].name
        if root.lower() not in known and root not in lambdas:
            yield _unknown("column", root, columns)


def _unknown(what: str, name: str, known: Sequence[str]) -> SqlProblem:
    return SqlProblem(f"there is no {what} `{name}`", f"one of {', '.join(known)}", did_you_mean(name, known))


def _a_kind(node: exp.Expr) -> str:
    return "a set operation" if isinstance(node, exp.SetOperation) else f"`{node.key.upper()}`"
