"""Batches through the record query by its own code, with real tables and without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from contract_examples import contract_of
from deltalake import DeltaTable
from spark_batch import kafka_frame

from headgate.checkpoints.books import Page
from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze
from headgate.formats.decoder import Writers
from headgate.topics.lake import carry_out_table
from headgate.topics.tables import compare_table, desired_tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["RecordBatches", "copying"]


def copying(source: dict[str, Any], columns: dict[str, str]) -> FrozenContract:
    """A contract that copies columns, named with their types, of one source `a` to the table `copy`."""
    output = {"sql": f"SELECT {', '.join(columns)} FROM a", "to": [{"delta": "copy"}]}
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in columns.items()]
    return freeze(
        contract_of({"a": source}, {"copy": output}),
        topics={"a": "t"},
        replication=1,
        outputs={"copy": ResolvedOutput(False, {"type": "struct", "fields": fields}, None, None, None)},
        env="local",
        headgate_version="0",
    )


@dataclass
class RecordBatches:
    session: SparkSession
    folder: Path
    frozen: FrozenContract
    writers: Writers | None = None
    pages: list[Page] = field(default_factory=list)

    def __post_init__(self) -> None:
        for table in desired_tables(self.frozen):
            for action in compare_table(table, None)[0]:
                carry_out_table(self.folder, action)

    def run(self, values: Sequence[bytes | None], batch_id: int = 0) -> Page:
        from spark.decode import raw_columns
        from spark.record import RecordQuery

        raw = raw_columns(kafka_frame(self.session, values))
        lane = RecordQuery(self._context(), self.pages.append)
        lane.commit(lane.frame(raw), batch_id)
        return self.pages[-1]

    def rows(self, table: str) -> list[dict[str, Any]]:
        path = self.folder / self.frozen.pipeline / table
        found: list[dict[str, Any]] = DeltaTable(str(path)).to_pyarrow_table().to_pylist()
        return found

    def _context(self) -> Any:
        """What a record query needs of its driver."""
        from spark.delta import DeltaSink

        tables = self.folder / self.frozen.pipeline
        sinks = {name: DeltaSink(tables / name, name) for name in ("copy", "_quarantine")}
        return SimpleNamespace(
            frozen=self.frozen,
            books=self.folder / "books",
            generation=1,
            epoch=1,
            lineage=SimpleNamespace(id="l1"),
            writers={"a": self.writers} if self.writers is not None else {},
            sink=lambda output, query: sinks["copy"],
            quarantine_sink=lambda source: sinks["_quarantine"],
            before_batch=lambda: None,
            before_write=lambda: None,
        )
