"""Batches of a source with a schema through the record query, with real tables and without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable
from spark_batch import kafka_frame
from two_lanes import frozen_of, lane_context

from headgate.checkpoints.books import Page
from headgate.contract.frozen import FrozenContract

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from headgate.formats.decoder import Writers

__all__ = ["RecordBatches", "copying"]


def copying(source: dict[str, Any], columns: dict[str, str]) -> FrozenContract:
    """A contract that copies columns, named with their types, of one source `a` to the table `copy`."""
    output = {"sql": f"SELECT {', '.join(columns)} FROM a", "to": [{"delta": "copy"}]}
    return frozen_of(source, {"copy": output}, {"copy": columns})


@dataclass
class RecordBatches:
    session: SparkSession
    folder: Path
    frozen: FrozenContract
    writers: Writers | None = None
    pages: list[Page] = field(default_factory=list)

    def run(self, values: Sequence[bytes | None], batch_id: int = 0) -> Page:
        from spark.decode import raw_columns
        from spark.record import RecordQuery

        raw = raw_columns(kafka_frame(self.session, values))
        context = lane_context(self.frozen, self.folder, self.writers)
        lane = RecordQuery(context, self.pages.append)
        lane.commit(lane.frame(raw), batch_id)
        return self.pages[-1]

    def rows(self, table: str) -> list[dict[str, Any]]:
        path = self.folder / self.frozen.pipeline / table
        found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
        return found
