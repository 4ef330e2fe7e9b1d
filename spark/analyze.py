"""Asks Spark itself what contracts mean: `python -m spark.analyze < contracts.json > results.json`.

In:  {"contracts": [contract, …]}. Out: {"results": [{"outputs": {name: {…}}, "problems": [{"at": […],
"message": …}]}, …]}. No record is read and no query runs: it is analysis, the check of what a stream can do,
and the constants of the contract (literals, patterns, formats), which Spark computes.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from headgate.contract.model import Contract, Job
from headgate.settings import load_settings
from spark.analyze_source import (
    Problem,
    failing_constants,
    first_line,
    good_records,
    problem,
    source_problems,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["analyze", "analyzed", "main"]

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
    spark = build_session(quiet, Job(cores=1), "headgate analysis", brief=True)
    results = [analyzed(spark, item) for item in request["contracts"]]
    json.dump({"results": results}, sys.stdout)
    sys.stdout.flush()
    spark.stop()


def analyzed(spark: SparkSession, item: dict[str, Any]) -> dict[str, Any]:
    """One contract that Spark or the analysis itself trips over must not take the others with it."""
    try:
        return analyze(spark, Contract.model_validate(item))
    except Exception as error:  # noqa: BLE001 - reported as the contract's problem
        return {"outputs": {}, "problems": [problem((), error)]}


def analyze(spark: SparkSession, contract: Contract) -> dict[str, Any]:
    """Schemas of the outputs and what is wrong with rules and SQL."""
    problems: list[Problem] = []
    frames: dict[str, DataFrame] = {}
    for name in contract.sources:
        found = source_problems(spark, contract, name)
        problems.extend(found)
        if not found:
            frames[name] = good_records(spark, contract, name)
    outputs: dict[str, Any] = {}
    if not problems:
        for name in contract.outputs:
            result = _output(spark, contract, name, frames)
            if "message" in result:
                problems.append({"at": ["outputs", name, result["key"]], "message": result["message"]})
            else:
                outputs[name] = result
    return {"outputs": outputs, "problems": problems}


def _output(
    spark: SparkSession, contract: Contract, name: str, frames: dict[str, DataFrame]
) -> dict[str, Any]:
    from headgate.contract.sql import parse_output
    from spark.implicit import casts_of_query
    from spark.stateful import output_frame

    spec = contract.outputs[name]
    key = "sql" if spec.sql is not None else "python"
    try:
        frame = output_frame(spark, contract, name, frames)
        if spec.sql is not None:
            spark.sql(spec.sql)  # as it is written, too: what runs was read by another parser in between
            constants = failing_constants(spark, parse_output(spec.sql, contract.sources))
            for message in [*constants, *casts_of_query(frame)]:
                return {"key": key, "message": message}
        stateful = _is_stateful(frame)
        _check_streaming(spark, frame, spec.mode if stateful else "append")
        schema = _plain_schema(json.loads(frame.schema.json()))
    except (ImportError, AttributeError) as error:
        return {"key": key, "message": f"the function cannot be loaded: {error}"}
    except Exception as error:  # noqa: BLE001 - py4j and the user's own function raise anything
        return {"key": key, "message": first_line(error)}
    return {"stateful": stateful, "schema": schema}


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


if __name__ == "__main__":
    main()
