"""Compiles a contract's SQL into SQL that never raises and never hides a failure.

Sessions run with ANSI mode off, so that no record can stop a stream. On its own that would turn a bad
cast into NULL and let an integer overflow wrap in silence. Therefore every cast and every arithmetic
operation is rewritten to its `try_` form, and next to an expression stands its *failure condition*: a
boolean that is true when an operation had its operands and yet no result. Such a record is quarantined.
What the author wrote as `try_…` is left alone: there NULL is the wish.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from sqlglot import exp

from headgate.contract.failing import failure_of, unjudged
from headgate.contract.model import Contract, Source
from headgate.contract.safe import safe
from headgate.contract.scopes import judge
from headgate.contract.sql import SqlProblem, parse_output, parse_rule, to_sql

__all__ = [
    "COMPUTE",
    "failure_conditions",
    "failure_of",
    "output_problems",
    "rule_problems",
    "safe",
    "safe_output",
    "safe_rule",
    "source_columns",
]

COMPUTE = "_compute_"  # prefix of the reason for records whose output expression cannot be computed
# A condition holds each operation's operands beside it, so that it grows with the square of the depth.
MAX_CONDITION = 100_000

# Pure functions of a contract's text, and needed in every batch: the driver computes each of them once.
_once = lru_cache(maxsize=1024)
_Columns = tuple[tuple[str, tuple[str, ...]], ...]  # the columns of each source, by its name


def source_columns(source: Source) -> list[str]:
    """The columns SQL sees for a source: the contract's own, the text line, and where a record is from."""
    own = [column.name for column in source.columns]
    line = ["line"] if source.format == "text" and "line" not in own else []
    return [*own, *line, "_key", "_topic", "_partition", "_offset", "_arrival"]


def safe_output(text: str, sources: Iterable[str]) -> str:
    """The SQL of an output as the driver runs it."""
    return _safe_output(text, tuple(sources))


def safe_rule(text: str, source: Source) -> str:
    """The SQL of a rule as the driver runs it."""
    return to_sql(safe(_rule(text, source_columns(source))))


def failure_conditions(contract: Contract, source_name: str) -> list[tuple[str, str]]:
    """What a record of a source must not do: (reason, SQL that is true or NULL when it does).

    First the contract's rules (NULL counts as failed), then one reason per output whose expressions over
    this source's columns can fail. The order is the contract's.
    """
    source = contract.sources[source_name]
    columns = tuple(source_columns(source))
    found = [(rule.name, _rule_condition(rule.expect, columns)) for rule in source.rules]
    for name, output in contract.outputs.items():
        if output.sql is not None:
            failure = _judged(output.sql, _columns(contract))[0].get(source_name)
            if failure is not None:
                found.append((f"{COMPUTE}{name}", f"coalesce({failure}, false)"))
    return found


def rule_problems(text: str, source: Source) -> list[SqlProblem]:
    """What can fail in a rule without a condition that says so. The rule was parsed before."""
    columns = tuple(source_columns(source))
    problems = [_uncovered(node) for node in unjudged(_rule(text, columns))]
    return problems or _too_large([_rule_condition(text, columns)])


def output_problems(text: str, contract: Contract) -> list[SqlProblem]:
    """What can fail in an output without a record that can be blamed. The query was parsed before."""
    failures, uncovered = _judged(text, _columns(contract))
    return list(uncovered) or _too_large(failures.values())


def _columns(contract: Contract) -> _Columns:
    return tuple((name, tuple(source_columns(source))) for name, source in contract.sources.items())


def _rule(text: str, columns: Sequence[str]) -> exp.Expr:
    node = parse_rule(text, columns)
    if isinstance(node, list):
        raise ValueError(node[0].message)
    return node


@_once
def _rule_condition(text: str, columns: tuple[str, ...]) -> str:
    node = _rule(text, columns)
    failed = f"NOT coalesce({to_sql(safe(node))}, false)"
    failure = failure_of(node)
    return f"({failed}) OR coalesce({to_sql(failure)}, false)" if failure else failed


@_once
def _safe_output(text: str, sources: tuple[str, ...]) -> str:
    return to_sql(safe(_output(text, sources)))


@_once
def _judged(text: str, sources: _Columns) -> tuple[dict[str, str], tuple[SqlProblem, ...]]:
    """The failure condition by source, and the problems of what has none."""
    verdict = judge(_output(text, [name for name, _ in sources]), dict(sources))
    failures = {name: to_sql(failure) for name, failure in verdict.failures.items()}
    return failures, tuple(dict.fromkeys(_uncovered(node) for node in verdict.uncovered))


def _output(text: str, sources: Sequence[str]) -> exp.Select:
    query = parse_output(text, sources)
    if isinstance(query, list):
        raise ValueError(query[0].message)
    return query


def _uncovered(node: exp.Expr) -> SqlProblem:
    plain, wish = to_sql(node), to_sql(safe(node)).lower()
    if wish == plain.lower() or len(wish) > 100:
        wish = "its try_ form (try_cast, try_divide, try_to_timestamp, …)"
    return SqlProblem(
        f"`{plain[:200]}` can fail here without a record of one source to blame: it would be NULL in silence",
        "an operation over the columns of one source, in a SELECT that reads that source alone",
        f"write {wish} where NULL is what you want, or compute it in a subquery over its source",
    )


def _too_large(conditions: Iterable[str]) -> list[SqlProblem]:
    size = sum(len(condition) for condition in conditions)
    if size <= MAX_CONDITION:
        return []
    return [
        SqlProblem(
            f"what can fail here takes {size:,} characters to say",
            f"at most {MAX_CONDITION:,}",
            "nest fewer operations in one another: a record's values can come from the producer",
        )
    ]
