"""Asks Spark itself what contracts mean: `python -m spark.analyze < contracts.json > results.json`.

In:  {"contracts": [contract, …]}. Out: {"results": [{"outputs": {name: {…}}, "problems": [{"at": […],
"message": …}]}, …]}. Nothing is read and nothing runs: only analysis, and the check of what a stream can do.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from headgate.contract.model import Contract, Job
from headgate.settings import load_settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["analyze", "main"]

_STATEFUL_NODES = {
    "Aggregate",
    "Distinct",
    "Deduplicate",
    "DeduplicateWithinWatermark",
    "Join",
    "FlatMapGroupsWithState",
    "TransformWithState",
    "FlatMapGroupsInPandasWithState",
    "TransformWithStateInPySpark",
}


def main() -> None:
    from spark.session import build_session

    request = json.load(sys.stdin)
    settings, _ = load_settings()
    quiet = settings.model_copy(
        update={"spark": settings.spark.model_copy(update={"ui": False, "master": "local"})}
    )
    spark = build_session(quiet, Job(cores=1), "headgate analysis")
    results = [analyze(spark, Contract.model_validate(item)) for item in request["contracts"]]
    json.dump({"results": results}, sys.stdout)
    sys.stdout.flush()
    spark.stop()


def analyze(spark: SparkSession, contract: Contract) -> dict[str, Any]:
    """Schemas of the outputs and what is wrong with rules and SQL."""
    problems: list[dict[str, Any]] = []
    frames: dict[str, DataFrame] = {}
    for name in contract.sources:
        frame = _source_frame(spark, contract, name, problems)
        if frame is not None:
            frames[name] = frame
    outputs: dict[str, Any] = {}
    if not problems:
        for name in contract.outputs:
            result = _output(spark, contract, name, frames)
            if "message" in result:
                problems.append({"at": ["outputs", name, result["key"]], "message": result["message"]})
            else:
                outputs[name] = result
    return {"outputs": outputs, "problems": problems}


def _source_frame(
    spark: SparkSession, contract: Contract, name: str, problems: list[dict[str, Any]]
) -> DataFrame | None:
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as F

    from headgate.contract.compile import failure_conditions, source_columns
    from headgate.contract.sql import parse_rule
    from spark.screen import screen
    from spark.stateful import with_watermark

    source = contract.sources[name]
    raw = _empty_stream(spark, name)
    base = contract.model_copy(
        update={"outputs": {}, "sources": {**contract.sources, name: source.model_copy(update={"rules": ()})}}
    )
    try:
        screened = screen(raw, base, name)
    except PySparkException as error:
        problems.append({"at": ["sources", name, "columns"], "message": _first_line(error)})
        return None
    for i, each in enumerate(source.rules):
        for message in _failing_constants(spark, parse_rule(each.expect, source_columns(source))):
            problems.append({"at": ["sources", name, "rules", i, "expect"], "message": message})
    with_rules = contract.model_copy(update={"outputs": {}})
    numbers = {rule.name: i for i, rule in enumerate(source.rules)}
    for broken, sql in failure_conditions(with_rules, name):
        try:
            screened.frame.select(F.expr(sql))
            _must_be_boolean(screened.frame, source.rules[numbers[broken]].expect)
        except (PySparkException, TypeError) as error:
            at = ["sources", name, "rules", numbers[broken], "expect"]
            problems.append({"at": at, "message": _first_line(error)})
    return with_watermark(screened.good(), source)


def _must_be_boolean(frame: DataFrame, text: str) -> None:
    from pyspark.sql import functions as F

    kind = frame.select(F.expr(text)).schema.fields[0].dataType.simpleString()
    if kind != "boolean":
        raise TypeError(f"the rule is of type {kind}, not a boolean")


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


def _output(
    spark: SparkSession, contract: Contract, name: str, frames: dict[str, DataFrame]
) -> dict[str, Any]:
    from pyspark.errors import PySparkException

    from headgate.contract.sql import parse_output
    from spark.stateful import output_frame

    spec = contract.outputs[name]
    key = "sql" if spec.sql is not None else "python"
    try:
        frame = output_frame(spark, contract, name, frames)
        if spec.sql is not None:
            spark.sql(spec.sql)  # as it is written, too: what runs was read by another parser in between
            for message in _failing_constants(spark, parse_output(spec.sql, contract.sources)):
                return {"key": key, "message": message}
        stateful = _is_stateful(frame)
        _check_streaming(spark, frame, spec.mode if stateful else "append")
        schema = _plain_schema(json.loads(frame.schema.json()))
    except PySparkException as error:
        return {"key": key, "message": _first_line(error)}
    except (ImportError, AttributeError) as error:
        return {"key": key, "message": f"the function cannot be loaded: {error}"}
    except Exception as error:  # noqa: BLE001 - py4j and the user's own function raise anything
        return {"key": key, "message": _first_line(error)}
    return {"stateful": stateful, "schema": schema}


def _failing_constants(spark: SparkSession, parsed: Any) -> list[str]:
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
                messages.append(f"`{text}` is the same for every record and fails: {_first_line(error)}")
    finally:
        spark.conf.set("spark.sql.ansi.enabled", "false")
    return messages


def _plain_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Names and types alone: a table's columns are nullable, and watermarks are the source's."""
    fields = [{**field, "metadata": {}, "nullable": True} for field in schema["fields"]]
    return {"type": "struct", "fields": fields}


def _is_stateful(frame: DataFrame) -> bool:
    plan = frame._jdf.queryExecution().analyzed()
    names = set()
    stack = [plan]
    while stack:
        node = stack.pop()
        names.add(str(node.nodeName()))
        children = node.children()
        stack.extend(children.apply(i) for i in range(children.size()))
    return bool(names & _STATEFUL_NODES)


def _check_streaming(spark: SparkSession, frame: DataFrame, mode: str) -> None:
    """What Spark checks when a query starts: operations and output modes a stream can do."""
    jvm = spark._jvm
    checker = jvm.org.apache.spark.sql.catalyst.analysis.UnsupportedOperationChecker
    modes = jvm.org.apache.spark.sql.streaming.OutputMode
    chosen = modes.Update() if mode == "update" else modes.Append()
    checker.checkForStreaming(frame._jdf.queryExecution().analyzed(), chosen)


def _first_line(error: BaseException) -> str:
    """Spark's own words without its plan dump and stack."""
    text = str(getattr(error, "desc", None) or error).strip()
    text = text.split("\n\tat ")[0].split(";\n")[0].splitlines()[0] if text else type(error).__name__
    return text.removesuffix(";")[:600]


if __name__ == "__main__":
    main()
