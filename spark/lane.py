"""How the record query decodes, screens and writes: two lanes behind one interface.

Both give the same rows, the same quarantine and the same books; `headgate.arrow.choice` says which one runs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from headgate.arrow.choice import LaneChoice, lane_problems, record_lane
from headgate.checkpoints.layout import RECORDS
from headgate.errors import HeadgateError
from headgate.tables.fits import unfit

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from headgate.arrow.doubts import Doubts
    from headgate.checkpoints.books import Page
    from headgate.contract.frozen import FrozenContract
    from spark.context import DriverContext
    from spark.progress import StatusFile
    from spark.shared import SharedScreening

__all__ = ["Lane", "applied_lane", "lane_of"]

_log = logging.getLogger("headgate.driver")


class Lane(Protocol):
    """One record query."""

    example: str  # where the newest record that was quarantined stands, for people

    def frame(self, raw: DataFrame) -> DataFrame:
        """What goes before `writeStream`; `raw` has the columns of `spark.decode.raw_columns`. It works on
        a batch of records as on a stream of them."""

    def commit(self, batch: DataFrame, batch_id: int) -> None:
        """What runs in foreachBatch, with a batch of `frame`'s rows."""


def lane_of(
    context: DriverContext,
    counted: Callable[[Page], None],
    status: StatusFile,
    shared: SharedScreening | None = None,
) -> Lane:
    """The lane of a pipeline's record query; it is told in the log and in the driver's status. `shared`: what
    the tasks of another query have judged."""
    choice = applied_lane(context.frozen)
    for each in unfit(context.frozen, context.settings.tables):
        raise HeadgateError(
            f"{each.what} of {context.frozen.pipeline} cannot have tables at {context.settings.tables}: "
            f"{each.why}",
            expected="tables on a disk, or what can be on S3",
            help=f"{each.help}; then `headgate plan` and `headgate apply`",
        )
    told = f"{choice.lane}: {choice.why}"
    _log.info("the lane of the records is %s", told)
    status.change(lane=told)
    if choice.lane == "arrow":
        from spark.arrow_lane import ArrowLane

        def doubted(doubts: Doubts) -> None:
            status.change(lane=f"{told}{_aside(most=doubts.most)}")

        def came_on() -> None:
            status.query(RECORDS, lambda before: replace(before, last_task_at=time.time()))

        if shared is not None:
            shared.came_on = came_on
        return ArrowLane(context, counted, doubted, shared)
    from spark.record import RecordQuery

    return RecordQuery(context, counted)


def _aside(*, most: bool) -> str:
    """What is to be told beside the lane, empty where all is as it should be."""
    if not most:
        _log.info("most records are surely read in Arrow again")
        return ""
    text = (
        "; most of the newest records are such as Arrow does not surely read, and go through Spark after it: "
        "`lane: jvm` in the contract's `job` is the shorter way for them"
    )
    _log.warning("the lane of the records is arrow%s", text)
    return text


def applied_lane(frozen: FrozenContract) -> LaneChoice:
    """What a contract was applied with. Raises where what is installed here cannot do that: another lane is
    for its owner to choose, not for an upgrade."""
    for problem in lane_problems(frozen):
        raise HeadgateError(
            f"{'.'.join(problem.at)} of {frozen.pipeline}, as it is applied: {problem.message}",
            expected=f"the lane that it was applied with, by headgate {frozen.headgate_version}",
            help=f"{problem.help}; then `headgate plan`, `headgate apply` and `headgate restart "
            f"{frozen.pipeline}`",
        )
    return record_lane(frozen)
