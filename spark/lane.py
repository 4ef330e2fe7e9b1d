"""How the record query decodes, screens and writes: two lanes behind one interface.

Both give the same rows, the same quarantine and the same books; `headgate.arrow.choice` says which one runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from headgate.arrow.choice import record_lane

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from headgate.checkpoints.books import Page
    from spark.context import DriverContext

__all__ = ["Lane", "lane_of"]


class Lane(Protocol):
    """One record query."""

    example: str  # where the newest record that was quarantined stands, for people

    def frame(self, raw: DataFrame) -> DataFrame:
        """What goes before `writeStream`; `raw` has the columns of `spark.decode.raw_columns`. It works on
        a batch of records as on a stream of them."""

    def commit(self, batch: DataFrame, batch_id: int) -> None:
        """What runs in foreachBatch, with a batch of `frame`'s rows."""


def lane_of(context: DriverContext, counted: Callable[[Page], None]) -> Lane:
    """The lane of a pipeline's record query."""
    if record_lane(context.frozen).lane == "arrow":
        from spark.arrow_lane import ArrowLane

        return ArrowLane(context, counted)
    from spark.record import RecordQuery

    return RecordQuery(context, counted)
