"""Files that tasks write, and what the table's log says of them."""

from __future__ import annotations

import json
import math
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from headgate.arrow import files as module
from headgate.arrow.files import TableFiles, Written
from headgate.arrow.kinds import MOMENT
from headgate.arrow.statistics import Statistics
from spark.delta import TIDY_FIRST, DeltaSink

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.string()), ("at", MOMENT)])
NOON = datetime(2025, 10, 1, 12, 0, 0, 123_456, tzinfo=UTC)

LATER = "2025-10-01T12:00:00.124Z"


def rows(*numbers: int) -> pa.Table:
    values = [[*numbers], [f"s{n}" for n in numbers], [NOON] * len(numbers)]
    return pa.table([pa.array(v, f.type) for v, f in zip(values, SCHEMA, strict=True)], schema=SCHEMA)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    DeltaTable.create(str(tmp_path / "t"), schema=SCHEMA)
    return tmp_path / "t"


def written(folder: Path, *parts: pa.Table) -> list[Written]:
    files = TableFiles(folder, SCHEMA)
    for part in parts:
        files.write(part)
    return files.close()


def numbers(table: Path) -> list[int]:
    return sorted(DeltaTable(str(table)).to_pyarrow_table()["n"].to_pylist())


def test_files_are_part_of_the_table_once_they_are_committed(table):
    files = written(table, rows(1, 2), rows(3))
    assert [(each.rows, each.path.endswith(".parquet")) for each in files] == [(3, True)]
    assert numbers(table) == []
    sink = DeltaSink(table, "app")
    assert not sink.has(0)
    sink.append_files(files, 0)
    assert numbers(table) == [1, 2, 3]
    assert sink.has(0)
    assert DeltaSink(table, "app").has(0)


def test_without_rows_there_is_no_file(table):
    assert written(table, rows()) == []
    assert list(table.glob("*.parquet")) == []


def test_large_outputs_are_several_files_of_bounded_row_groups(table, monkeypatch):
    monkeypatch.setattr(module, "GROUP_ROWS", 2)
    monkeypatch.setattr(module, "FILE_BYTES", 1)
    files = written(table, rows(1, 2), rows(3), rows(4, 5), rows(6))
    assert [each.rows for each in files] == [2, 3, 1]


def test_two_writers_of_one_batch_do_not_double_it(table):
    one, two = DeltaSink(table, "app"), DeltaSink(table, "app")
    assert not one.has(0)
    assert not two.has(0)
    one.append_files(written(table, rows(1)), 0)
    with pytest.raises(CommitFailedError):
        two.append_files(written(table, rows(1)), 0)
    assert numbers(table) == [1]


def test_the_lanes_share_their_transaction_id_and_note_who_writes(table):
    sink = DeltaSink(table, "app")
    assert sink.noted_writer is None
    sink.append_rows(rows(1), 0)
    sink.note_writer("deltalake")
    assert sink.has(0)
    sink.append_files(written(table, rows(2)), 1)
    again = DeltaSink(table, "app")
    assert again.noted_writer == "deltalake"
    assert again.has(1)


def test_a_note_of_a_writer_fails_where_another_commit_came_in_between(table):
    one, two = DeltaSink(table, "app"), DeltaSink(table, "app")
    assert (one.noted_writer, two.noted_writer) == (None, None)
    two.note_writer("delta-spark")
    with pytest.raises(CommitFailedError):
        one.note_writer("deltalake")
    assert one.noted_writer == "delta-spark"


def test_what_was_abandoned_is_gone(table):
    files = TableFiles(table, SCHEMA)
    files.write(rows(1))
    files._flush()
    files.write(rows(2))
    files.abandon()
    assert list(table.glob("*.parquet")) == []


@pytest.mark.parametrize("sweeps", [True, False])
def test_files_that_no_commit_names_go_after_the_tables_horizon(table, sweeps):
    sink = DeltaSink(table, "app")
    sink.sweeps = sweeps
    (old,), (new,) = written(table, rows(100)), written(table, rows(200))
    long_ago = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
    os.utime(table / old.path, (long_ago, long_ago))
    for batch in range(TIDY_FIRST):
        assert not sink.has(batch)
        (merged,) = written(table, rows(batch))
        os.utime(table / merged.path, (long_ago, long_ago))
        sink.append_files([merged], batch)
        sink.upkeep(batch)
    assert (table / old.path).exists() is not sweeps
    assert (table / new.path).exists()
    # What was replaced just now has its readers, however old it is.
    assert (table / merged.path).exists()
    assert merged.path not in DeltaTable(str(table)).file_uris()[0]
    assert numbers(table) == list(range(TIDY_FIRST))


def _micros(moment: datetime | int | None) -> int | None:
    if not isinstance(moment, datetime):
        return moment
    return int(pa.scalar(moment, MOMENT).cast(pa.int64()).as_py())


def statistics(kind: pa.DataType, *values: Any) -> dict[str, Any]:
    found = Statistics(pa.schema([("c", kind)]))
    for value in values:
        # Numbers of microseconds stand where Python has no dates.
        plain = [_micros(each) for each in value] if kind == MOMENT else value
        found.add(pa.table({"c": pa.array(plain, kind)}))
    told = json.loads(found.to_json())
    return {key: told[key].get("c") for key in ("minValues", "maxValues", "nullCount")} | {
        "numRecords": told["numRecords"]
    }


@pytest.mark.parametrize(
    ("kind", "values", "low", "high"),
    [
        (pa.int32(), [3, None, -1], -1, 3),
        (pa.float64(), [1.5, -2.0], -2.0, 1.5),
        (pa.string(), ["b", "a", None], "a", "b"),
        (pa.date32(), [date(2025, 1, 1), date(1, 1, 1)], "0001-01-01", "2025-01-01"),
        (MOMENT, [NOON], "2025-10-01T12:00:00.123Z", LATER),
        (MOMENT, [datetime(2, 1, 1, tzinfo=UTC)], "0002-01-01T00:00:00.000Z", "0002-01-01T00:00:00.000Z"),
        (MOMENT, [NOON, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)], None, None),
        (pa.string(), ["a", "x" * 33], None, None),
        (pa.bool_(), [True, False], None, None),
        (pa.float64(), [1.0, math.inf], None, None),
        (pa.float64(), [1.0, math.nan, 2.0], None, None),
        (pa.float32(), [math.nan, None], None, None),
        (MOMENT, [-63_000_000_000_000_000, NOON], None, None),
        (MOMENT, [-62_135_596_800_000_001, NOON], None, None),
        (MOMENT, [-62_135_596_800_000_000, NOON], "0001-01-01T00:00:00.000Z", LATER),
        (pa.int64(), [None], None, None),
    ],
)
def test_statistics_bound_what_is_there_and_say_nothing_where_they_cannot(kind, values, low, high):
    found = statistics(kind, values)
    assert (found["minValues"], found["maxValues"]) == (low, high)
    assert (found["numRecords"], found["nullCount"]) == (len(values), values.count(None))


def test_numbers_of_which_one_is_nan_in_any_row_group_have_no_bounds():
    for values in ([[1.0], [math.nan], [2.0]], [[math.nan], [1.0]], [[1.0], [2.0, math.nan]]):
        found = statistics(pa.float64(), *values)
        assert (found["minValues"], found["maxValues"]) == (None, None)


def test_files_hold_no_bounds_of_their_own_for_floating_columns(tmp_path):
    schema = pa.schema([("d", pa.float64()), ("f", pa.float32()), ("n", pa.int64())])
    files = TableFiles(tmp_path, schema)
    files.write(pa.table({"d": [1.0, math.nan], "f": pa.array([1, 2], pa.float32()), "n": [1, 2]}))
    (file,) = files.close()
    group = pq.ParquetFile(tmp_path / file.path).metadata.row_group(0)
    bounded = {
        group.column(n).path_in_schema: bool(
            group.column(n).statistics and group.column(n).statistics.has_min_max
        )
        for n in range(group.num_columns)
    }
    assert bounded == {"d": False, "f": False, "n": True}


def test_a_reader_to_which_nan_is_the_largest_number_finds_it(tmp_path):
    schema = pa.schema([("d", pa.float64())])
    DeltaTable.create(str(tmp_path / "t"), schema=schema)
    files, sink = TableFiles(tmp_path / "t", schema), DeltaSink(tmp_path / "t", "app")
    files.write(pa.table({"d": [1.0, math.nan, 3.0]}))
    assert not sink.has(0)
    sink.append_files(files.close(), 0)
    (action,) = pa.table(DeltaTable(str(tmp_path / "t")).get_add_actions(flatten=True)).to_pylist()
    assert (action.get("max.d"), action.get("min.d")) == (None, None)


def test_statistics_of_several_row_groups_are_one(table):
    found = statistics(pa.int64(), [1, 5], [None], [-3])
    assert found == {"minValues": -3, "maxValues": 5, "nullCount": 1, "numRecords": 4}


def test_readers_skip_files_by_their_statistics_and_find_every_row(table):
    sink = DeltaSink(table, "app")
    for batch, part in enumerate([rows(1, 2), rows(10, 11)]):
        assert not sink.has(batch)
        sink.append_files(written(table, part), batch)
    opened = DeltaTable(str(table))
    for bound, wanted in (([("n", "=", 11)], [11]), ([("at", "=", NOON)], [1, 2, 10, 11])):
        found = opened.to_pyarrow_table(filters=bound)
        assert sorted(found["n"].to_pylist()) == wanted
    actions = pa.table(opened.get_add_actions(flatten=True)).to_pylist()
    assert sorted((each["min.n"], each["max.n"], each["num_records"]) for each in actions) == [
        (1, 2, 2),
        (10, 11, 2),
    ]
