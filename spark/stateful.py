"""Frames of outputs: the SQL or the Python function of a contract over screened sources."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from headgate.contract.compile import safe_output
from headgate.contract.facts import event_time_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from headgate.contract.model import Contract, Source

__all__ = ["output_frame", "with_watermark"]


def with_watermark(frame: DataFrame, source: Source) -> DataFrame:
    """The source's watermark on its event time; a source without event time has none."""
    column = event_time_name(source)
    if column is None or source.event_time is None:
        return frame
    return frame.withWatermark(column, source.event_time.watermark)


def output_frame(
    spark: SparkSession, contract: Contract, name: str, frames: Mapping[str, DataFrame]
) -> DataFrame:
    """What an output computes from its sources, by name. The views belong to the given session."""
    spec = contract.outputs[name]
    if spec.sql is not None:
        for source, frame in frames.items():
            frame.createOrReplaceTempView(source)
        return spark.sql(safe_output(spec.sql, contract.sources))
    module, _, function = str(spec.python).partition(":")
    compute = getattr(importlib.import_module(module), function)
    result: DataFrame = compute(dict(frames))
    return result
