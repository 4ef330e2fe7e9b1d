"""Exactly-once writes to Delta: every commit carries (transaction id, batch id), looked up before.

Small results are written by `deltalake` in the driver (a commit takes some 20 ms), whole batches of
records by Spark. `deltalake` accepts the same transaction twice from a fresh reader, so the version is
read and the commit made on one handle, which a commit from elsewhere would make conflict.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

__all__ = ["DeltaSink"]

# One file per batch would make a table slow to read within a day; every so many commits they are merged.
COMPACT_EVERY = 100
CHECKPOINT_EVERY = 10


class DeltaSink:
    """One table, one transaction id."""

    def __init__(self, path: Path, transaction: str) -> None:
        self.path = path
        self.transaction = transaction
        self._table = DeltaTable(str(path))

    def has(self, batch_id: int) -> bool:
        """Whether this batch, or a later one, is committed."""
        self._table.update_incremental()
        done = self._table.transaction_version(self.transaction)
        return done is not None and done >= batch_id

    def append_rows(self, rows: pa.Table, batch_id: int) -> None:
        """Append collected rows. Call `has` first: both use the same handle."""
        write_deltalake(self._table, rows, mode="append", commit_properties=self._commit(batch_id))

    def merge_rows(self, rows: pa.Table, key: Sequence[str], batch_id: int, bound: str | None) -> None:
        """Upsert collected rows on `key`, null-safely. `bound` is a column of timestamps, whose range in
        `rows` limits which files are looked at where it is one of `key`."""
        predicate = " AND ".join(f'(t."{name}" IS NOT DISTINCT FROM s."{name}")' for name in key)
        # What is not part of the key may have changed: a bound on it would miss the row and insert a second.
        if bound is not None and bound in key and rows.num_rows and rows.column(bound).null_count == 0:
            predicate = f"{_range(rows, bound)} AND {predicate}"
        merge = self._table.merge(
            rows,
            predicate=predicate,
            source_alias="s",
            target_alias="t",
            commit_properties=self._commit(batch_id),
        )
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def append_frame(self, frame: DataFrame, batch_id: int, partition_by: Sequence[str] = ()) -> None:
        """Append a whole frame by Spark, which skips a batch that the table already has."""
        writer = frame.write.format("delta").mode("append")
        writer = writer.option("txnAppId", self.transaction).option("txnVersion", str(batch_id))
        if partition_by:
            writer = writer.partitionBy(*partition_by)
        writer.save(str(self.path))

    def upkeep(self, batch_id: int) -> None:
        """Keep the log and the files small. Between batches, in the process that writes."""
        if batch_id and batch_id % COMPACT_EVERY == 0:
            self._table.update_incremental()
            self._table.optimize.compact()
        if batch_id and batch_id % CHECKPOINT_EVERY == 0:
            self._table.create_checkpoint()

    def _commit(self, batch_id: int) -> CommitProperties:
        transaction = Transaction(self.transaction, batch_id)
        return CommitProperties(app_transactions=[transaction], max_commit_retries=0)


def _range(rows: pa.Table, column: str) -> str:
    """The range of a column of timestamps, as numbers: they may lie where Python has no dates."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bounds = pc.min_max(rows.column(column).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())).as_py()
    low, high = (
        f"arrow_cast(arrow_cast({bounds[end]}, 'Int64'), 'Timestamp(Microsecond, Some(\"UTC\"))')"
        for end in ("min", "max")
    )
    return f't."{column}" >= {low} AND t."{column}" <= {high}'
