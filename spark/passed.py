"""The good records of a source in the Arrow lane, as a frame for a stateful output.

Their columns come from a task (`spark.passed_task`). Records that it is not sure of come along as they were,
and go through `spark.screen` behind it. That is one line of steps and no union of two: a streaming source
that is used twice is read twice.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from headgate.arrow.passed import passed_plan
from headgate.arrow.reading import leaves_none
from headgate.arrow.screen import RAW
from headgate.contract.refusal import refusals
from spark.arrow_lane import bound_batches
from spark.passed_task import PassedOrder, pass_on
from spark.screen import screen

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from headgate.contract.frozen import FrozenContract
    from headgate.formats.decoder import Writers

__all__ = ["good_in_arrow"]

_log = logging.getLogger("headgate.driver")

_GOOD = "_good_"  # before the names of columns that a task has read
_READ = "_in_arrow"


def good_in_arrow(
    raw: DataFrame,
    frozen: FrozenContract,
    output: str,
    source: str,
    *,
    writers: Writers | None = None,
    notes: tuple[str, str] | None = None,
) -> DataFrame:
    """Those columns of the good records that the output looks at; `raw` is as `spark.screen` has it, and so
    are `writers`. `notes`: folder and mark of what the tasks note for another query
    (`headgate.arrow.stretches`)."""
    _log.info("the records of output %s are read in Arrow", output)
    plan = passed_plan(frozen, output, source)
    sure = leaves_none(frozen.contract.sources[source])
    contract, topic = json.dumps(frozen.to_json()), frozen.topics[source]
    order = PassedOrder(contract, output, source, topic, notes, sure, writers)
    bound_batches(raw.sparkSession)
    rows = raw.select(*RAW.names).mapInArrow(pass_on(order), from_arrow_schema(plan.schema))
    if sure:
        return rows.select(*plan.columns)
    came = F.get(F.col("_as_came"), F.lit(0))
    again = rows.select(
        *(came.getField(name).alias(name) for name in RAW.names),
        F.lit(order.topic).alias("_topic"),
        F.col("_as_came").isNull().alias(_READ),
        *(F.col(name).alias(f"{_GOOD}{name}") for name in plan.columns),
    )
    beside = [_READ, *(f"{_GOOD}{name}" for name in plan.columns)]
    judged = screen(again, frozen.contract, source, writers, beside=beside)
    passed = judged.passed_or_failed(refusals(frozen.contract, source, topic))
    kept = judged.frame.where(F.when(F.col(_READ), F.lit(True)).otherwise(passed))
    return kept.select(*(_either(name).alias(name) for name in plan.columns))


def _either(name: str) -> Column:
    return F.when(F.col(_READ), F.col(f"{_GOOD}{name}")).otherwise(F.col(name))
