"""What needs two places of a contract at once: names, references, allow-lists, SQL. All problems at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from headgate.contract.compile import output_problems, rule_problems, source_columns
from headgate.contract.document import Document, Key
from headgate.contract.model import (
    SOURCE_OPTIONS,
    SPARK_CONFS,
    TOPIC_CONFIGS,
    Contract,
    Output,
    Source,
    StartAt,
)
from headgate.contract.sql import SqlProblem, parse_output, parse_rule
from headgate.contract.text import PatternProblem, group_numbers
from headgate.errors import Problem
from headgate.suggest import did_you_mean

__all__ = ["check_contract"]

OWN_KEYS = "headgate:"  # what serving keeps in Redis starts with it
RESERVED_OUTPUTS = {"records", "quarantine", "history"}  # the record query's name, and words of the API


def check_contract(contract: Contract, document: Document) -> list[Problem]:
    """Every problem that the parts of a valid document have with each other, in the file's order."""
    check = _Check(contract, document)
    for name, source in contract.sources.items():
        check.source(name, source)
    for name, output in contract.outputs.items():
        check.output(name, output)
    check.quality()
    check.spark()
    return sorted(check.problems, key=lambda problem: (problem.line, problem.column))


class _Check:
    def __init__(self, contract: Contract, document: Document) -> None:
        self.contract = contract
        self.document = document
        self.problems: list[Problem] = []
        self.rule_owners: dict[str, str] = {}  # rule to source

    def add(
        self,
        at: Key,
        message: str,
        *,
        expected: str | None = None,
        help: str | None = None,
        on_key: bool = False,
    ) -> None:
        self.problems.append(self.document.problem(at, message, expected=expected, help=help, on_key=on_key))

    def add_sql(self, at: Key, problems: Sequence[SqlProblem]) -> None:
        for problem in problems:
            self.add(at, problem.message, expected=problem.expected, help=problem.help)

    def source(self, name: str, source: Source) -> None:
        at: Key = ("sources", name)
        self._columns(at, source)
        self._event_time(at, source)
        self._pattern(at, source)
        self._start(at, source)
        self._allowed((*at, "config"), list(source.config), TOPIC_CONFIGS, "topic config")
        self._allowed((*at, "options"), list(source.options), SOURCE_OPTIONS, "Kafka source option")
        columns = source_columns(source)
        for i, rule in enumerate(source.rules):
            # Books, metrics and the quarantine know a rule by its name alone.
            if (owner := self.rule_owners.setdefault(rule.name, name)) != name or rule.name in {
                other.name for other in source.rules[:i]
            }:
                where = "there twice" if owner == name else f"in source `{owner}` already"
                self.add(
                    (*at, "rules", i, "name"),
                    f"rule `{rule.name}` is {where}",
                    expected="names that are unique in the contract",
                )
            parsed = parse_rule(rule.expect, columns)
            problems = parsed if isinstance(parsed, list) else rule_problems(rule.expect, source)
            self.add_sql((*at, "rules", i, "expect"), problems)

    def _columns(self, at: Key, source: Source) -> None:
        seen: set[str] = set()
        if source.format == "json" and not source.columns:
            self.add(at, "a JSON source has columns", expected="`columns:` with at least one name and type")
        for i, column in enumerate(source.columns):
            place = (*at, "columns", i)
            if column.name.lower() in seen:
                self.add((*place, "name"), f"column `{column.name}` is there twice", expected="unique names")
            seen.add(column.name.lower())
            if column.name.startswith("_"):
                self.add(
                    (*place, "name"), f"column `{column.name}`: names that start with `_` are headgate's"
                )
            if column.zone is not None and not _is_zone(column.zone):
                self.add(
                    (*place, "zone"), f"`{column.zone}` is not a time zone", expected="such as `Europe/Paris`"
                )
            for key in ("zone", "format", "default_year"):
                if getattr(column, key) is not None and column.type not in {"timestamp", "date"}:
                    self.add((*place, key), f"`{key}` goes with timestamps", expected="`type: timestamp`")
            if source.format == "text" and column.type.startswith(("array", "map", "struct", "binary")):
                self.add((*place, "type"), "text has no nested columns", expected="a simple type")

    def _event_time(self, at: Key, source: Source) -> None:
        event_time = source.event_time
        if event_time is None or event_time.column is None:
            return
        names = [column.name for column in source.columns]
        place = (*at, "event_time", "column")
        if event_time.column not in names:
            self._unknown(place, "column", event_time.column, names)
        elif next(c for c in source.columns if c.name == event_time.column).type != "timestamp":
            self.add(place, f"column `{event_time.column}` is not a timestamp", expected="`type: timestamp`")

    def _pattern(self, at: Key, source: Source) -> None:
        if source.format != "text":
            if source.pattern is not None:
                self.add((*at, "pattern"), "`pattern` goes with text", expected="`format: text`")
            return
        if source.pattern is None:
            if source.columns:
                self.add(at, "columns of text come from a pattern", expected="`pattern:` with named groups")
            return
        try:
            groups = group_numbers(source.pattern)
        except PatternProblem as problem:
            self.add((*at, "pattern"), str(problem), expected="a regular expression with groups `(?<name>…)`")
            return
        for i, column in enumerate(source.columns):
            if column.name not in groups and column.name != "line":
                self._unknown((*at, "columns", i, "name"), "group", column.name, list(groups))

    def _start(self, at: Key, source: Source) -> None:
        if isinstance(source.start, StartAt) and not _is_instant(source.start.timestamp):
            self.add(
                (*at, "start", "timestamp"),
                f"`{source.start.timestamp}` is not a moment",
                expected="such as 2026-01-31T00:00:00Z",
            )

    def output(self, name: str, output: Output) -> None:
        at: Key = ("outputs", name)
        if name in RESERVED_OUTPUTS:
            self.add(at, f"an output cannot be named `{name}`", expected="another name", on_key=True)
        if output.sql is not None:
            parsed = parse_output(output.sql, self.contract.sources)
            problems = parsed if isinstance(parsed, list) else output_problems(output.sql, self.contract)
            self.add_sql((*at, "sql"), problems)
        if output.mode == "update" and not output.key:
            self.add(at, "`mode: update` upserts, and on what is not said", expected="`key: [column, …]`")
        if len(set(output.key)) != len(output.key):
            self.add((*at, "key"), "a column is in `key` twice")
        self._targets(name, output)

    def _targets(self, name: str, output: Output) -> None:
        """An output goes to one table and one Redis key at most, and each of them is its own."""
        at: Key = ("outputs", name, "to")
        for kind in ("delta", "redis"):
            mine = [getattr(target, kind) for target in output.to if getattr(target, kind)]
            if kind == "redis" and mine and mine[0].startswith(OWN_KEYS):
                self.add(at, f"the Redis keys `{OWN_KEYS}…` are headgate's own", expected="another name")
            if len(mine) > 1:
                self.add(at, f"an output goes to one `{kind}` at most", expected="an output for each")
            for other, spec in self.contract.outputs.items():
                if other == name:
                    break
                theirs = {getattr(target, kind) for target in spec.to}
                if mine and mine[0] in theirs:
                    self.add(
                        at, f"`{kind}: {mine[0]}` belongs to output `{other}`", expected="one of its own"
                    )

    def quality(self) -> None:
        quality = self.contract.quality
        if quality is None:
            return
        with_table = [n for n, o in self.contract.outputs.items() if any(t.delta for t in o.to)]
        for i, expectation in enumerate(quality.expectations):
            at: Key = ("quality", "expectations", i, "output")
            if expectation.output not in self.contract.outputs:
                self._unknown(at, "output", expectation.output, list(self.contract.outputs))
            elif expectation.output not in with_table:
                self.add(
                    at, f"output `{expectation.output}` has no Delta table to check", expected="`to: delta`"
                )

    def spark(self) -> None:
        self._allowed(("job", "spark"), list(self.contract.job.spark), SPARK_CONFS, "Spark conf")

    def _allowed(self, at: Key, names: Sequence[str], allowed: frozenset[str], what: str) -> None:
        for name in names:
            if name not in allowed:
                self.add(
                    (*at, name),
                    f"the {what} `{name}` is not one that a contract may set",
                    expected=f"one of {', '.join(sorted(allowed))}",
                    help=did_you_mean(name, allowed),
                    on_key=True,
                )

    def _unknown(self, at: Key, what: str, name: str, known: Sequence[str]) -> None:
        self.add(
            at,
            f"there is no {what} `{name}`",
            expected=f"one of {', '.join(known) or '(none)'}",
            help=did_you_mean(name, known),
        )


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return bool(re.fullmatch(r"[+-]\d\d:\d\d", name))
    return True


def _is_instant(text: str) -> bool:
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
