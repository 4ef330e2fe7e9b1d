"""Exactly once by (transaction id, batch id), on real tables and without Spark."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field
from deltalake.exceptions import CommitFailedError, DeltaError

import spark.delta
from headgate.errors import TablesUnavailable
from headgate.tables.access import S3Access
from headgate.tables.answers import StoreDenied
from headgate.tables.place import S3Folder
from spark.delta import CHECKPOINT_EVERY, TIDY_FIRST, DeltaSink

NOON = datetime(2025, 10, 1, 12, tzinfo=UTC)
SCHEMA = pa.schema(
    [("at", pa.timestamp("us", tz="UTC")), ("key", pa.string()), ("value", pa.int64())],
)


def rows(*values: tuple[Any, Any, Any]) -> pa.Table:
    columns = list(zip(*values, strict=True)) if values else [[], [], []]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    DeltaTable.create(str(tmp_path / "t"), schema=SCHEMA)
    return tmp_path / "t"


def content(table: Path) -> list[tuple[Any, ...]]:
    found = DeltaTable(str(table)).to_pyarrow_table().to_pylist()
    return sorted(((r["at"], r["key"], r["value"]) for r in found), key=lambda row: row[2])


def test_a_batch_is_known_by_its_transaction_and_so_is_every_one_before(table):
    sink = DeltaSink(table, "app")
    assert not sink.has(0)
    sink.append_rows(rows((NOON, "a", 1)), 3)
    assert [sink.has(n) for n in (0, 3, 4)] == [True, True, False]
    assert DeltaSink(table, "app").has(3)
    assert not DeltaSink(table, "another").has(0)


def test_a_commit_from_elsewhere_is_seen_before_the_next_write(table):
    one, two = DeltaSink(table, "app"), DeltaSink(table, "app")
    assert not one.has(0)
    two.append_rows(rows((NOON, "a", 1)), 0)
    assert one.has(0)


def test_two_drivers_that_write_one_batch_at_once_do_not_double_it(table):
    one, two = DeltaSink(table, "app"), DeltaSink(table, "app")
    assert not one.has(0)
    assert not two.has(0)
    one.append_rows(rows((NOON, "a", 1)), 0)
    with pytest.raises(CommitFailedError):
        two.append_rows(rows((NOON, "a", 1)), 0)
    assert content(table) == [(NOON, "a", 1)]


def test_an_upsert_replaces_what_has_the_key_and_keeps_the_rest(table):
    sink = DeltaSink(table, "app")
    sink.append_rows(rows((NOON, "a", 1), (NOON, "b", 2)), 0)
    sink.merge_rows(rows((NOON, "b", 20), (NOON, "c", 30)), ["at", "key"], 1, "at")
    assert content(table) == [(NOON, "a", 1), (NOON, "b", 20), (NOON, "c", 30)]
    assert sink.has(1)


def test_null_is_a_key_like_any_other(table):
    sink = DeltaSink(table, "app")
    sink.append_rows(rows((NOON, None, 1), (None, "a", 2)), 0)
    sink.merge_rows(rows((NOON, None, 10), (None, "a", 20), (None, None, 30)), ["at", "key"], 1, "at")
    assert content(table) == [(NOON, None, 10), (None, "a", 20), (None, None, 30)]


def test_the_bound_of_an_upsert_leaves_no_match_out(table):
    sink = DeltaSink(table, "app")
    moments = [NOON + timedelta(microseconds=n) for n in (0, 1, 999_999, 10**12)]
    sink.append_rows(rows(*((at, "k", n) for n, at in enumerate(moments))), 0)
    sink.merge_rows(rows(*((at, "k", n + 10) for n, at in enumerate(moments))), ["at", "key"], 1, "at")
    assert [value for _, _, value in content(table)] == [10, 11, 12, 13]


def test_a_row_whose_event_time_moves_is_still_found_by_its_key(table):
    sink = DeltaSink(table, "app")
    sink.append_rows(rows((NOON, "a", 1)), 0)
    sink.merge_rows(rows((NOON + timedelta(days=1), "a", 2)), ["key"], 1, "at")
    assert content(table) == [(NOON + timedelta(days=1), "a", 2)]


def test_the_bound_may_lie_where_python_has_no_dates(table):
    sink = DeltaSink(table, "app")
    far = pa.array([-(10**17), 10**17], pa.int64()).cast(SCHEMA.field("at").type)
    both = pa.table([far, pa.array(["a", "b"]), pa.array([1, 2])], schema=SCHEMA)
    sink.append_rows(both, 0)
    sink.merge_rows(both, ["at", "key"], 1, "at")
    assert DeltaTable(str(table)).to_pyarrow_table().num_rows == 2


def widen(table: Path) -> None:
    """As `apply` does while a driver of the old contract runs."""
    DeltaTable(str(table)).alter.add_columns([Field("note", "string")])


def notes(table: Path) -> dict[int, str | None]:
    return {row["value"]: row["note"] for row in DeltaTable(str(table)).to_pyarrow_table().to_pylist()}


def test_rows_of_the_old_contract_go_into_a_table_that_was_widened(table):
    sink = DeltaSink(table, "app")
    widen(table)
    assert not sink.has(0)
    sink.append_rows(rows((NOON, "a", 1)), 0)
    sink.append_rows(rows((NOON, "a", 2)), 1)
    assert notes(table) == {1: None, 2: None}
    assert DeltaSink(table, "app").has(1)


def test_an_upsert_of_the_old_contract_keeps_what_the_new_column_holds(table):
    old = DeltaSink(table, "app")
    widen(table)
    new = rows((NOON, "a", 1)).append_column("note", pa.array(["kept"]))
    DeltaSink(table, "other").append_rows(new, 0)
    assert not old.has(0)
    old.merge_rows(rows((NOON, "a", 10), (NOON, "b", 20)), ["at", "key"], 0, "at")
    assert notes(table) == {10: "kept", 20: None}


def made_to_forget(path: Path, **more: str) -> Path:
    """A table that keeps nothing of what was replaced."""
    kept = {"delta.logRetentionDuration": "interval 0 days"}
    kept["delta.deletedFileRetentionDuration"] = "interval 0 days"
    DeltaTable.create(str(path), schema=SCHEMA, configuration={**kept, **more})
    return path


def data_files(table: Path) -> int:
    return len(list(table.glob("*.parquet")))


def test_upserts_do_not_fill_the_disk(tmp_path):
    table = made_to_forget(tmp_path / "t")
    sink = DeltaSink(table, "app")
    for batch in range(TIDY_FIRST):
        assert not sink.has(batch)
        sink.merge_rows(rows((NOON, "k", batch)), ["at", "key"], batch, "at")
        sink.upkeep(batch)
    assert data_files(table) == 1
    assert content(table) == [(NOON, "k", TIDY_FIRST - 1)]


def test_what_was_replaced_stays_for_its_readers_as_long_as_the_table_says(table):
    sink = DeltaSink(table, "app")
    for batch in range(TIDY_FIRST):
        sink.merge_rows(rows((NOON, "k", batch)), ["at", "key"], batch, "at")
        sink.upkeep(batch)
    assert data_files(table) == TIDY_FIRST


def test_the_log_is_cut_and_the_table_still_opens(tmp_path):
    table = made_to_forget(tmp_path / "t")
    sink = DeltaSink(table, "app")
    for batch in range(TIDY_FIRST):
        assert not sink.has(batch)
        sink.append_rows(rows((NOON, "k", batch)), batch)
        time.sleep(0.002)
        sink.upkeep(batch)
    assert len(list((table / "_delta_log").glob("*.json"))) < TIDY_FIRST // 2
    assert len(content(table)) == TIDY_FIRST
    assert DeltaSink(table, "app").has(TIDY_FIRST - 1)


def test_a_writer_that_seldom_writes_is_tidied_by_its_own_commits(table):
    sink = DeltaSink(table, "app")
    for number in range(TIDY_FIRST):
        sink.append_rows(rows((NOON, "k", number)), number * 37 + 1)
        sink.upkeep(number * 37 + 1)
    assert len(DeltaTable(str(table)).file_uris()) == 1


def test_a_stream_that_is_behind_merges_no_files_for_a_while_and_then_does(tmp_path, monkeypatch):
    monkeypatch.setattr(spark.delta, "PUT_OFF", 30)
    for behind_until, expected in ((20, 20), (10_000, TIDY_FIRST + 30)):
        table = made_to_forget(tmp_path / f"t{expected}")
        sink = DeltaSink(table, "app")
        for batch in range(expected):
            assert len(DeltaTable(str(table)).file_uris()) == batch, "nothing is merged yet"
            sink.append_rows(rows((NOON, "k", batch)), batch)
            sink.upkeep(batch, behind=batch + 1 < behind_until)
        assert len(DeltaTable(str(table)).file_uris()) == 1


def test_files_are_merged_only_where_it_is_worth_it(table):
    before = DeltaSink(table, "app")
    before.append_rows(rows((NOON, "k", 0)), 0)
    sink = DeltaSink(table, "app")
    for batch in range(1, TIDY_FIRST + 1):
        assert not sink.has(batch)
        sink.merge_rows(rows((NOON, "k", batch)), ["at", "key"], batch, "at")
        sink.upkeep(batch)
    operations = [each["operation"] for each in DeltaTable(str(table)).history()]
    assert "OPTIMIZE" not in operations


def test_an_upsert_rewrites_a_bounded_part_of_a_table_that_grows(tmp_path):
    """Each batch touches the window of the one before, so every file would be carried into the next."""
    table = made_to_forget(tmp_path / "t", **{"delta.targetFileSize": "20000"})
    sink, keys = DeltaSink(table, "app"), [f"key {n}" for n in range(1000)]
    for batch in range(30):
        assert not sink.has(batch)
        both = [(NOON + timedelta(minutes=n), key, n) for n in (batch, batch + 1) for key in keys]
        sink.merge_rows(rows(*both), ["at", "key"], batch, "at")
    assert len(content(table)) == 31_000
    (last,) = DeltaTable(str(table)).history(1)
    assert last["operationMetrics"]["num_target_rows_copied"] < 15_000


def test_a_commit_from_elsewhere_puts_the_upkeep_off(table, caplog):
    sink = DeltaSink(table, "app")
    for batch in range(TIDY_FIRST - 1):
        sink.append_rows(rows((NOON, "k", batch)), batch)
        sink.upkeep(batch)
    sink._tidy = Mock(side_effect=CommitFailedError("another was faster"))  # type: ignore[method-assign]
    sink.append_rows(rows((NOON, "k", 9)), 9)
    sink.upkeep(9)
    assert "put off" in caplog.text
    assert not sink.has(10)


@pytest.mark.parametrize("error", [OSError("Generic S3 error: 503"), DeltaError("Generic S3 error: 503")])
@pytest.mark.parametrize("step", ["update_incremental", "create_checkpoint"])
def test_a_store_that_is_away_for_a_moment_puts_the_upkeep_off_and_a_disk_does_not(
    table, tmp_path, caplog, error, step
):
    sink = DeltaSink(table, "app")
    sink._table = Mock(**{f"{step}.side_effect": error})
    sink._commits = CHECKPOINT_EVERY * 2 - 1
    with pytest.raises(type(error)):
        sink.upkeep(0)
    assert caplog.records == []
    sink.path = S3Folder(S3Access("us-east-1", tmp_path), "lake", "t")
    sink._commits = CHECKPOINT_EVERY * 2 - 1
    sink.upkeep(0)
    assert "the upkeep of s3://lake/t after batch 0 is put off: Generic S3 error: 503" in caplog.text


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("The operation lacked valid authentication credentials for path t/a: Error performing PUT "
                 "http://store/lake/t/a - 401 Unauthorized"), StoreDenied),
        (DeltaError("Generic DeltaTable error: Generic S3 error: Error performing GET http://store/lake: 401 "
                    "Unauthorized"), StoreDenied),
        (DeltaError("Generic S3 error: Error performing PUT http://store/lake: 503"), TablesUnavailable),
        (CommitFailedError("another was faster"), CommitFailedError),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("step", "do"),
    [
        ("update_incremental", lambda sink: sink.has(0)),
        ("update_incremental", lambda sink: sink.noted_writer),
        ("create_write_transaction", lambda sink: sink.append_files([], 0)),
        ("alter.set_table_properties", lambda sink: sink.note_writer("deltalake")),
    ],
)
def test_what_a_store_answers_about_a_table_that_is_open_is_told_as_headgates_own(
    tmp_path, error, told, step, do
):
    DeltaTable.create(str(tmp_path / "t"), schema=SCHEMA)
    sink = DeltaSink(tmp_path / "t", "app")
    sink._table = Mock(**{f"{step}.side_effect": error})
    with pytest.raises(type(error)) as on_disk:
        do(sink)
    assert on_disk.value is error
    sink.path = S3Folder(S3Access("us-east-1", tmp_path), "lake", "t")
    with pytest.raises(told):
        do(sink)


def test_upkeep_keeps_the_rows_and_makes_a_checkpoint_of_the_log(table):
    sink = DeltaSink(table, "app")
    for batch in range(110):
        sink.append_rows(rows((NOON, "k", batch)), batch)
        sink.upkeep(batch)
    assert len(content(table)) == 110
    assert len(DeltaTable(str(table)).file_uris()) == 1
    assert list((table / "_delta_log").glob("*.checkpoint*.parquet"))
    assert DeltaSink(table, "app").has(100)
