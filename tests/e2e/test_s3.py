"""Tables on S3, against a real server: what the store must do, commits, files, and a table's whole life."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from s3_service import ACCESS_KEY, SECRET_KEY, keys_below, s3_environ, s3_server
from s3_streams import contract, credentials, server, server_log

from headgate.arrow.files import TableFiles, Written, require
from headgate.checkpoints import restore
from headgate.checkpoints.layout import table_path
from headgate.checkpoints.lineage import has_history
from headgate.delta_rows import delta_rows
from headgate.errors import TablesUnavailable
from headgate.local.ports import free_port
from headgate.settings import Settings, load_settings
from headgate.tables.conditional import StoreRefused, require_conditional_put
from headgate.tables.delta import is_table, open_table, storage_options
from headgate.tables.files import files_in, folders_in, remove, size_of
from headgate.tables.place import S3Folder
from headgate.topics.lake import carry_out_table
from headgate.topics.live import read_table
from headgate.topics.tables import compare_table, desired_tables
from headgate.torture.services import until
from serving.tail import new_rows
from spark.delta import DeltaSink

__all__ = ["credentials", "server", "server_log"]

SCHEMA = pa.schema([("n", pa.int64())])


def settings_at(url: str, home: Path, prefix: str) -> Settings:
    return load_settings(home, s3_environ(url, prefix))[0]


@pytest.fixture
def place(server: str, tmp_path: Path) -> S3Folder:
    """A folder of one test alone."""
    tables = settings_at(server, tmp_path, f"t-{tmp_path.name}".replace("_", "-")).tables
    assert isinstance(tables, S3Folder)
    return tables


def written(folder: S3Folder, *numbers: int) -> list[Written]:
    files = TableFiles(folder, SCHEMA)
    files.write(pa.table({"n": pa.array(numbers, pa.int64())}))
    return files.close()


def made(table: S3Folder) -> S3Folder:
    DeltaTable.create(str(table), schema=SCHEMA, storage_options=storage_options(table))
    return table


@pytest.fixture
def table(place: S3Folder) -> S3Folder:
    return made(place / "p" / "t")


def numbers(table: S3Folder) -> list[int]:
    return sorted(open_table(table).to_pyarrow_table()["n"].to_pylist())


# ------------------------------------------------------------------- the store


def test_a_store_with_conditional_put_passes_and_nothing_is_left_behind(place):
    require_conditional_put(place)
    assert keys_below(place) == []


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("--takes-both", r"of two puts of one key with If-None-Match: \* it takes both"),
        ("--looks-first", "it looks first and writes then"),
    ],
)
def test_a_store_that_does_not_keep_two_writers_apart_is_refused(tmp_path, kind, why):
    with s3_server(tmp_path / "server.log", kind) as url:
        tables = settings_at(url, tmp_path, "refused").tables
        assert isinstance(tables, S3Folder)
        with pytest.raises(StoreRefused, match=why):
            require_conditional_put(tables)
        assert keys_below(tables) == []


def test_a_store_that_is_away_is_told_as_such_and_not_as_an_empty_one(tmp_path):
    tables = settings_at(f"http://127.0.0.1:{free_port()}", tmp_path, "away").tables
    assert isinstance(tables, S3Folder)
    with pytest.raises(TablesUnavailable, match=r"s3://lake/away cannot be reached"):
        require_conditional_put(tables)
    with pytest.raises(TablesUnavailable):
        read_table(tables / "p" / "t")
    with pytest.raises(TablesUnavailable):
        is_table(tables / "p" / "t")


def test_other_credentials_and_another_bucket_are_refused_without_the_secret(server, tmp_path, monkeypatch):
    monkeypatch.setenv("LAKE_KEY", "AKIASOMEBODYELSE0000")
    tables = settings_at(server, tmp_path, "foreign").tables
    with pytest.raises(StoreRefused, match="cannot be written to") as caught:
        require_conditional_put(tables)
    assert SECRET_KEY not in str(caught.value)
    monkeypatch.setenv("LAKE_KEY", ACCESS_KEY)
    environ = {**s3_environ(server), "HEADGATE_ROOTS_TABLES": "s3://nobodys-bucket/a"}
    with pytest.raises(StoreRefused, match="a bucket nobodys-bucket that is there"):
        require_conditional_put(load_settings(tmp_path, environ)[0].tables)


# ------------------------------------------------------------------- tables


def test_files_are_part_of_a_table_once_they_are_committed(table):
    files = written(table, 1, 2)
    assert numbers(table) == []
    sink = DeltaSink(table, "app")
    assert not sink.has(0)
    sink.append_files(files, 0)
    assert numbers(table) == [1, 2]
    assert sink.has(0)
    assert DeltaSink(table, "app").has(0)
    assert delta_rows(open_table(table), table).to_table()["n"].to_pylist() == [1, 2]


def test_two_writers_of_one_batch_do_not_double_it(table):
    one, two = DeltaSink(table, "app"), DeltaSink(table, "app")
    assert not one.has(0)
    assert not two.has(0)
    one.append_files(written(table, 1), 0)
    with pytest.raises(CommitFailedError):
        two.append_files(written(table, 1), 0)
    assert numbers(table) == [1]
    assert two.has(0)


def test_of_writers_of_one_batch_at_once_one_commits_it(table):
    sinks = [DeltaSink(table, "app") for _ in range(4)]
    for batch_id in range(5):
        ready = [not sink.has(batch_id) for sink in sinks]
        assert all(ready)
        start = threading.Barrier(len(sinks))
        with ThreadPoolExecutor(len(sinks)) as pool:
            done = list(pool.map(partial(_commits, table, batch_id, start), sinks))
        assert sum(done) == 1
        assert numbers(table) == list(range(batch_id + 1))


def _commits(table: S3Folder, batch_id: int, start: threading.Barrier, sink: DeltaSink) -> bool:
    files = written(table, batch_id)
    start.wait()
    try:
        sink.append_files(files, batch_id)
    except CommitFailedError:
        return False
    return True


def test_each_file_of_a_log_is_put_under_the_condition_that_there_is_none(table, server_log):
    sink = DeltaSink(table, "app")
    assert not sink.has(0)
    sink.append_files(written(table, 1), 0)
    assert sink.noted_writer is None
    sink.note_writer("deltalake")
    puts = [line.split()[1:] for line in server_log.read_text().splitlines() if line.startswith("put ")]
    log = [(path, condition) for path, condition in puts if f"/{table.key}/_delta_log/" in path]
    assert [path.rpartition("/")[2] for path, _ in log] == [f"{version:020}.json" for version in range(3)]
    assert {condition for _, condition in log} == {"*"}


def test_a_commit_whose_answer_was_lost_is_found_and_not_made_twice(tmp_path):
    with s3_server(tmp_path / "server.log", "--loses-answers") as url:
        tables = settings_at(url, tmp_path, "lost").tables
        assert isinstance(tables, S3Folder)
        table = made(tables / "p" / "t")
        sink = DeltaSink(table, "app")
        assert not sink.has(0)
        with pytest.raises((CommitFailedError, OSError)):
            sink.append_files(written(table, 1), 0)
        assert DeltaSink(table, "app").has(0)
        assert numbers(table) == [1]


def test_what_no_commit_names_is_found_and_removed(table):
    files = TableFiles(table, SCHEMA, "part-epoch1-x")
    files.write(pa.table({"n": pa.array([1], pa.int64())}))
    (file,) = files.close()
    assert files_in(table, "part-epoch1-*.parquet") == [file.path]
    assert size_of(table / file.path) == file.size
    remove(table, [file.path, "not-there.parquet"])
    assert files_in(table, "*.parquet") == []
    assert size_of(table / file.path) is None


def large_rows() -> pa.Table:
    """Some 25 MB that nothing packs: a file of them goes in three parts."""
    count = 3_200_000
    return pa.table(
        {"n": pa.Array.from_buffers(pa.int64(), count, [None, pa.py_buffer(os.urandom(8 * count))])}
    )


def parts_sent(server_log: Path, folder: S3Folder) -> list[str]:
    """The keys of Parquet files below a folder, as often as something of them was put."""
    puts = [line.split()[1] for line in server_log.read_text().splitlines() if line.startswith("put ")]
    return [path for path in puts if f"/{folder.key}/part-" in path]


def test_a_large_file_goes_in_parts_and_is_read_as_it_was_written(table, server_log):
    rows = large_rows()
    files = TableFiles(table, SCHEMA)
    files.write(rows)
    (file,) = files.close()
    assert parts_sent(server_log, table) == [f"/lake/{table.key}/{file.path}"] * 3
    require(table, [file])
    sink = DeltaSink(table, "app")
    assert not sink.has(0)
    sink.append_files([file], 0)
    assert delta_rows(open_table(table), table).to_table().combine_chunks() == rows


def test_of_a_large_file_that_is_abandoned_after_a_part_was_sent_no_object_comes(table, server_log):
    files = TableFiles(table, SCHEMA)
    files.write(large_rows())
    until(lambda: bool(parts_sent(server_log, table)), 60, "a part is sent")
    files.abandon()
    del files
    gc.collect()
    assert files_in(table, "*.parquet") == []
    # Nor when the client goes on to others, which it sends by the same threads.
    (other,) = written(table, 1)
    assert files_in(table, "*.parquet") == [other.path]


def test_upkeep_keeps_the_rows_and_makes_few_files_of_many(table):
    sink = DeltaSink(table, "app")
    for batch_id in range(12):
        assert not sink.has(batch_id)
        sink.append_files(written(table, batch_id), batch_id)
        sink.upkeep(batch_id)
    assert numbers(table) == list(range(12))
    assert len(open_table(table).file_uris()) < 12
    assert files_in(table / "_delta_log", "*.checkpoint*.parquet")


def test_a_history_is_found_and_that_of_another_pipeline_is_not(table):
    sink = DeltaSink(table, "headgate/p/records/t/l1")
    assert not sink.has(0)
    assert not has_history(table, "p")
    sink.append_files(written(table, 1), 0)
    assert has_history(table, "p")
    assert not has_history(table, "other")


def test_a_table_is_put_back_to_the_version_of_a_snapshot_once(table):
    sink = DeltaSink(table, "app")
    for batch_id in range(3):
        assert not sink.has(batch_id)
        sink.append_files(written(table, batch_id), batch_id)
    for _ in range(2):
        restore._put_back(table, 2, "headgate/p/_restore/t/l2")
        assert (open_table(table).version(), numbers(table)) == (4, [0, 1])


def test_the_newest_rows_are_those_that_a_version_has_added(table):
    sink = DeltaSink(table, "app")
    for batch_id in range(2):
        assert not sink.has(batch_id)
        sink.append_files(written(table, batch_id), batch_id)
    assert new_rows(open_table(table, 2), open_table(table, 1), table) == [{"n": 1}]


def test_a_table_is_made_widened_and_read_as_on_a_disk(place):
    frozen = contract("made")
    for wanted in desired_tables(frozen):
        path = table_path(place, wanted.pipeline, wanted.table)
        assert read_table(path) is None
        for action in compare_table(wanted, None)[0]:
            carry_out_table(place, action)
        assert compare_table(wanted, read_table(path)) == ([], [], [])
        assert is_table(path)
    assert folders_in(place / "made") == ["_quarantine", "large", "rows"]
