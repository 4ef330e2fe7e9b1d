"""Exactly-once writes to Delta: every commit carries (transaction id, batch id), looked up before.

Small results are written by `deltalake` in the driver (a commit takes some 20 ms), whole batches of
records by Spark. `deltalake` accepts the same transaction twice from a fresh reader, so the version is
read and the commit made on one handle, which a commit from elsewhere would make conflict.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deltalake import (
    CommitProperties,
    PostCommitHookProperties,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from headgate.tables.answers import masked
from headgate.tables.delta import answered_to_delta, open_table
from headgate.tables.place import Place, S3Folder, on_disk

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake.transaction import RemoveAction
    from pyspark.sql import DataFrame

    from headgate.arrow.files import Written

__all__ = ["DeltaSink"]

_log = logging.getLogger("headgate.driver")

CHECKPOINT_EVERY = 10
# One file per batch would make a table slow to read within a day: every so many commits of this process
# they are merged. The first time comes early, so that it comes at all where a driver seldom writes.
TIDY_EVERY, TIDY_FIRST = 100, 10
# A stream that is behind catches up first, for so many commits at most: merging writes the rows of all these
# batches once more, on the cores that the next batch needs.
PUT_OFF = 200
# With fewer small files there is nothing to win: merging them would rewrite the same rows each time.
WORTH_FILES = 10
# What is larger is left alone, which bounds how often a row is rewritten. A table may say another size.
SMALL_BYTES = 8 * 1024 * 1024
WRITER_PROPERTY = "headgate.writer"
_TRANSACTION = "spark.databricks.delta.write"
_SPARKS = "a write by Spark"
# Left on, each commit would look for a checkpoint to make and for old files of the log.
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class DeltaSink:
    """One table, one transaction id."""

    def __init__(self, path: Place, transaction: str) -> None:
        self.path = path
        self.transaction = transaction
        self._table = open_table(path)
        self._commits = 0
        self._untidy_since: int | None = None  # the commit after which it was to be tidied
        # Whether tasks write files into the folder by themselves, some of which no commit will ever name.
        self.sweeps = False

    def has(self, batch_id: int) -> bool:
        """Whether this batch, or a later one, is committed."""
        self._update()
        done = self._table.transaction_version(self.transaction)
        return done is not None and done >= batch_id

    def append_rows(self, rows: pa.Table, batch_id: int) -> None:
        """Append collected rows. Call `has` first: both use the same handle.

        A table that `apply` has widened since this driver started gets NULL in what it does not write.
        """
        with answered_to_delta(self.path):
            write_deltalake(
                self._table,
                self._widened(rows),
                mode="append",
                commit_properties=self._commit(batch_id),
                post_commithook_properties=_NO_HOOKS,
            )

    def merge_rows(self, rows: pa.Table, key: Sequence[str], batch_id: int, bound: str | None) -> None:
        """Upsert collected rows on `key`, null-safely. `bound` is a column of timestamps, whose range in
        `rows` limits which files are looked at where it is one of `key`. Columns that `apply` has added
        meanwhile are NULL in a new row and stay as they are in an old one."""
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
            post_commithook_properties=_NO_HOOKS,
        )
        merge.when_matched_update_all().when_not_matched_insert_all().execute()

    def merge_frame(self, frame: DataFrame, key: Sequence[str], batch_id: int, bound: str | None) -> None:
        """Upsert a whole frame by Spark, which skips a batch that the table already has. As `merge_rows`;
        the frame is read several times, so it is a cached one."""
        from delta.tables import DeltaTable as SparkTable

        conditions = [f"t.`{name}` <=> s.`{name}`" for name in key]
        if bound is not None and bound in key and (within := _range_of(frame, bound)):
            conditions.append(within)
        # Named one by one: `*` asks for every column of the table, and it may be wider by now.
        values = {f"`{name}`": f"s.`{name}`" for name in frame.columns}
        spark = frame.sparkSession  # the query's own session: no other query sees these settings
        spark.conf.set(f"{_TRANSACTION}.txnAppId", self.transaction)
        spark.conf.set(f"{_TRANSACTION}.txnVersion", str(batch_id))
        try:
            target = SparkTable.forPath(spark, str(on_disk(self.path, _SPARKS))).alias("t")
            merge = target.merge(frame.alias("s"), " AND ".join(conditions))
            merge.whenMatchedUpdate(set=values).whenNotMatchedInsert(values=values).execute()
        finally:
            spark.conf.unset(f"{_TRANSACTION}.txnAppId")
            spark.conf.unset(f"{_TRANSACTION}.txnVersion")

    def append_frame(self, frame: DataFrame, batch_id: int, partition_by: Sequence[str] = ()) -> None:
        """Append a whole frame by Spark, which skips a batch that the table already has."""
        writer = frame.write.format("delta").mode("append")
        writer = writer.option("txnAppId", self.transaction).option("txnVersion", str(batch_id))
        if partition_by:
            writer = writer.partitionBy(*partition_by)
        writer.save(str(on_disk(self.path, _SPARKS)))

    def append_files(self, files: Sequence[Written], batch_id: int) -> None:
        """Commit files that are in the table's folder. Call `has` first: both use the same handle."""
        actions: list[AddAction | RemoveAction] = [
            AddAction(each.path, each.size, {}, each.modified, True, each.statistics) for each in files
        ]
        with answered_to_delta(self.path):
            self._table.create_write_transaction(
                actions,
                "append",
                self._table.schema(),
                commit_properties=self._commit(batch_id),
                post_commithook_properties=_NO_HOOKS,
            )

    @property
    def noted_writer(self) -> str | None:
        """The library that writes the table, as its properties say; None where they do not."""
        self._update()
        return self._table.metadata().configuration.get(WRITER_PROPERTY)

    def note_writer(self, library: str) -> None:
        """Note the one library that writes this table from now on. Look at `noted_writer` first, then at the
        claim: all use the same handle, so that a commit from elsewhere in between makes this one fail."""
        with answered_to_delta(self.path):
            self._table.alter.set_table_properties(
                {WRITER_PROPERTY: library},
                raise_if_not_exists=False,
                commit_properties=CommitProperties(max_commit_retries=0),
                post_commithook_properties=_NO_HOOKS,
            )

    def upkeep(self, batch_id: int, *, behind: bool = False) -> None:
        """Keep log and files small. Call it after each commit: between batches, in the process that writes.
        While the stream is `behind` what can wait does.

        Merging, vacuum and the log's clean-up follow the table's own properties. The batch is committed: a
        commit from elsewhere in between is no reason to stop, nor is what a store does not do or does not
        let us do; the next time does it. A disk that fails is one.
        """
        self._commits += 1
        tidy = self._is_to_be_tidied(behind)
        if not tidy and self._commits % CHECKPOINT_EVERY:
            return
        later = (DeltaError, OSError) if isinstance(self.path, S3Folder) else (CommitFailedError,)
        try:
            self._table.update_incremental()
            if tidy:
                self._tidy()
            self._table.create_checkpoint()
            if tidy:
                self._table.cleanup_metadata()
                self._untidy_since = None
        except later as error:
            told = masked(str(error))
            _log.warning("the upkeep of %s after batch %d is put off: %s", self.path, batch_id, told)

    def _is_to_be_tidied(self, behind: bool) -> bool:
        if self._untidy_since is None and self._commits % TIDY_EVERY == TIDY_FIRST:
            self._untidy_since = self._commits
        since = self._untidy_since
        return since is not None and (not behind or self._commits - since >= PUT_OFF)

    def _update(self) -> None:
        with answered_to_delta(self.path):
            self._table.update_incremental()

    def _tidy(self) -> None:
        target = int(self._table.metadata().configuration.get("delta.targetFileSize") or SMALL_BYTES)
        sizes = self._table.get_add_actions(flatten=True).column("size_bytes").to_pylist()
        if sum(size < target for size in sizes) >= WORTH_FILES:
            self._table.optimize.compact(target_size=target, post_commithook_properties=_NO_HOOKS)
        # Long enough ago: a reader may still be at what the log says was removed, or a task at a new file.
        self._table.vacuum(dry_run=False, full=self.sweeps, post_commithook_properties=_NO_HOOKS)

    def _widened(self, rows: pa.Table) -> pa.Table:
        import pyarrow as pa

        fields = self._table.schema().fields
        if all(field.name in rows.column_names for field in fields):
            return rows
        for field in pa.schema(self._table.schema().to_arrow()):
            if field.name not in rows.column_names:
                rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows

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


def _range_of(frame: DataFrame, column: str) -> str | None:
    """The same of a frame; None where a row has no time."""
    from pyspark.sql import functions as F

    micros = F.unix_micros(column)
    low, high, missing = frame.agg(
        F.min(micros), F.max(micros), F.count_if(F.col(column).isNull())
    ).collect()[0]
    if missing or low is None:
        return None
    return f"t.`{column}` BETWEEN timestamp_micros({low}L) AND timestamp_micros({high}L)"
