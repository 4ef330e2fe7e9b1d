"""Exactly once by (transaction id, batch id), on real tables and without Spark."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from spark.delta import DeltaSink

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


def test_upkeep_keeps_the_rows_and_makes_a_checkpoint_of_the_log(table):
    sink = DeltaSink(table, "app")
    for batch in range(101):
        sink.append_rows(rows((NOON, "k", batch)), batch)
        sink.upkeep(batch)
    assert len(content(table)) == 101
    assert len(DeltaTable(str(table)).file_uris()) == 1
    assert list((table / "_delta_log").glob("*.checkpoint*.parquet"))
    assert DeltaSink(table, "app").has(100)
