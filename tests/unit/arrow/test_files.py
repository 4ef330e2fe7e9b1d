"""Files that tasks write, and what the table's log says of them."""

from __future__ import annotations

import json
import math
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
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
    version = DeltaTable(str(table)).version()
    again.note_writer("deltalake")
    assert DeltaTable(str(table)).version() == version


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


def statistics(kind: pa.DataType, *values: Any) -> dict[str, Any]:
    found = Statistics(pa.schema([("c", kind)]))
    for value in values:
        found.add(pa.table({"c": pa.array(value, kind)}))
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
        (MOMENT, [NOON], "2025-10-01T12:00:00.123Z", "2025-10-01T12:00:00.124Z"),
        (MOMENT, [datetime(2, 1, 1, tzinfo=UTC)], "0002-01-01T00:00:00.000Z", "0002-01-01T00:00:00.000Z"),
        (MOMENT, [NOON, datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)], None, None),
        (pa.string(), ["a", "x" * 33], None, None),
        (pa.bool_(), [True, False], None, None),
        (pa.float64(), [1.0, math.inf], None, None),
        (pa.int64(), [None], None, None),
    ],
)
def test_statistics_bound_what_is_there_and_say_nothing_where_they_cannot(kind, values, low, high):
    found = statistics(kind, values)
    assert (found["minValues"], found["maxValues"]) == (low, high)
    assert (found["numRecords"], found["nullCount"]) == (len(values), values.count(None))


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
