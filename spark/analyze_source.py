"""What Spark says of one source: its patterns and formats, its rules, and every failure condition over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from headgate.contract.model import Column as ContractColumn
from headgate.contract.model import Contract, Rule, Source

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["Problem", "failing_constants", "first_line", "good_records", "problem", "source_problems"]

Problem = dict[str, Any]
Place = Sequence[str | int]


def problem(at: Place, error: BaseException) -> Problem:
    return {"at": list(at), "message": first_line(error)}


def source_problems(spark: SparkSession, contract: Contract, name: str) -> list[Problem]:
    """Everything that is wrong with a source by itself. Where there is nothing, `good_records` works."""
    from spark.decode import json_type

    source = contract.sources[name]
    at = ("sources", name)
    checks: list[tuple[Place, Callable[[], object]]] = []
    if source.pattern is not None:
        checks.append(((*at, "pattern"), lambda: _check_pattern(spark, str(source.pattern))))
    for i, column in enumerate(source.columns):
        checks.append(((*at, "columns", i, "type"), lambda column=column: json_type(column)))  # type: ignore[misc]
        if column.format and not column.format.startswith("epoch_"):
            place = (*at, "columns", i, "format")
            checks.append((place, lambda column=column: _check_format(spark, column)))  # type: ignore[misc]
    found = list(_tried(checks))
    # Decoding alone comes first: what is wrong with it would be told again for each rule.
    base = contract.model_copy(
        update={"outputs": {}, "sources": {**contract.sources, name: source.model_copy(update={"rules": ()})}}
    )
    frames: list[DataFrame] = []
    found = found or list(_tried([((*at, "columns"), lambda: frames.append(_screened(spark, base, name)))]))
    if found:
        return found
    for i, rule in enumerate(source.rules):
        place = (*at, "rules", i, "expect")
        checked = list(_tried([(place, lambda rule=rule: _check_rule(spark, frames[0], source, rule))]))  # type: ignore[misc]
        found.extend(checked)
    found = found or list(_condition_problems(frames[0], contract, name))
    if not found:
        found.extend(_tried([((*at, "event_time"), lambda: good_records(spark, contract, name))]))
    return found


def good_records(spark: SparkSession, contract: Contract, name: str) -> DataFrame:
    """The frame that the outputs see, screened as the driver does it, with its watermark."""
    from spark.screen import screen
    from spark.stateful import with_watermark

    return with_watermark(screen(_empty_stream(spark, name), contract, name).good(), contract.sources[name])


def failing_constants(spark: SparkSession, parsed: Any) -> list[str]:
    """What Spark says of constants that it cannot compute. `parsed` is sqlglot's tree; one that was refused
    when the contract was read does not come here."""
    from pyspark.errors import PySparkException

    from headgate.contract.constant import constant_parts
    from headgate.contract.sql import to_sql

    messages = []
    spark.conf.set("spark.sql.ansi.enabled", "true")
    try:
        for part in constant_parts(parsed):
            text = to_sql(part)
            try:
                spark.sql(f"SELECT {text}").collect()
            except PySparkException as error:
                messages.append(f"`{text}` is the same for every record and fails: {first_line(error)}")
    finally:
        spark.conf.set("spark.sql.ansi.enabled", "false")
    return messages


def first_line(error: BaseException) -> str:
    """Spark's own words without its plan dump and stack."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    text = str(getattr(error, "desc", None) or error).strip()
    text = text.split("\n\tat ")[0].split(";\n")[0].splitlines()[0] if text else type(error).__name__
    return text.removesuffix(";")[:600]


def _tried(checks: Sequence[tuple[Place, Callable[[], object]]]) -> Iterator[Problem]:
    """Whatever a check raises is its place's problem: Spark, py4j and Java have no common words for it."""
    for at, check in checks:
        try:
            check()
        except Exception as error:  # noqa: BLE001
            yield problem(at, error)


def _check_pattern(spark: SparkSession, pattern: str) -> None:
    from headgate.contract.text import group_count, java_pattern

    java: Any = spark._jvm
    try:
        groups = java.java.util.regex.Pattern.compile(java_pattern(pattern)).matcher("").groupCount()
    except Exception as error:
        cause = getattr(error, "java_exception", None)
        words = str(cause.getMessage()) if cause is not None else first_line(error)
        raise ValueError(f"Java cannot read this pattern: {words.splitlines()[0]}") from error
    if groups != group_count(pattern):
        raise ValueError(f"Java finds {groups} groups in this pattern, and Python {group_count(pattern)}")


def _check_format(spark: SparkSession, column: ContractColumn) -> None:
    from pyspark.sql import functions as F

    from spark.decode import time_format

    text = F.lit("2026-01-31 12:30:45")
    try:
        spark.range(1).select(F.try_to_timestamp(text, F.lit(time_format(column)))).collect()
    except Exception as error:
        raise ValueError(f"`{column.format}` is not a datetime pattern: {first_line(error)}") from error


def _check_rule(spark: SparkSession, frame: DataFrame, source: Source, rule: Rule) -> None:
    """Raises for the first thing that is wrong with a rule."""
    from pyspark.sql import functions as F

    from headgate.contract.compile import safe_rule, source_columns
    from headgate.contract.sql import parse_rule
    from spark.implicit import casts_of_projection

    kind = frame.select(F.expr(rule.expect)).schema.fields[0].dataType.simpleString()
    if kind != "boolean":
        raise TypeError(f"the rule is of type {kind}, not a boolean")
    messages = failing_constants(spark, parse_rule(rule.expect, source_columns(source)))
    messages += casts_of_projection(frame.select(F.expr(safe_rule(rule.expect, source))))
    if messages:
        raise ValueError(messages[0])


def _condition_problems(frame: DataFrame, contract: Contract, name: str) -> Iterator[Problem]:
    """Failure conditions that Spark cannot analyse: the driver would fail with them."""
    from pyspark.sql import functions as F

    from headgate.contract.compile import COMPUTE, failure_conditions

    numbers = {rule.name: i for i, rule in enumerate(contract.sources[name].rules)}
    for reason, sql in failure_conditions(contract, name):
        output = reason.removeprefix(COMPUTE)
        at: Place = ("outputs", output, "sql")
        if reason in numbers:
            at = ("sources", name, "rules", numbers[reason], "expect")
        yield from _tried([(at, lambda sql=sql: frame.select(F.expr(sql)))])  # type: ignore[misc]


def _screened(spark: SparkSession, contract: Contract, name: str) -> DataFrame:
    from spark.screen import screen

    return screen(_empty_stream(spark, name), contract, name).frame


def _empty_stream(spark: SparkSession, name: str) -> DataFrame:
    from pyspark.sql import functions as F

    from spark.decode import raw_columns

    rate = spark.readStream.format("rate").name(name).load()
    return raw_columns(
        rate.select(
            F.lit(None).cast("binary").alias("key"),
            F.lit(None).cast("binary").alias("value"),
            F.lit("").alias("topic"),
            F.lit(0).alias("partition"),
            F.col("value").alias("offset"),
            F.col("timestamp"),
        )
    )
