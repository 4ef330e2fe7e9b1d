"""Tables on S3: a real server, real Kafka, a real driver that is killed between two commits."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from driver_process import Stream, send
from s3_service import ACCESS_KEY, SECRET_KEY, keys_below, s3_environ, s3_server
from two_lanes import frozen_of

from headgate import failpoints
from headgate.arrow.files import TableFiles, Written, require
from headgate.checkpoints import restore
from headgate.checkpoints.layout import quarantine_table, table_path
from headgate.checkpoints.lineage import has_history
from headgate.checkpoints.preflight import preflight
from headgate.checkpoints.restore import Following, following
from headgate.checkpoints.sinks import sinks_of
from headgate.contract.frozen import FrozenContract, freeze
from headgate.delta_rows import delta_rows
from headgate.errors import RefusedError, TablesUnavailable
from headgate.failpoints import Order
from headgate.local.ports import free_port
from headgate.quality.audit import audit
from headgate.quality.quarantine import newest_quarantined
from headgate.settings import Settings, load_settings
from headgate.tables.conditional import StoreRefused, require_conditional_put
from headgate.tables.delta import is_table, open_table, storage_options
from headgate.tables.files import files_in, folders_in, remove, size_of
from headgate.tables.place import S3Folder
from headgate.topics.apply import apply_plan
from headgate.topics.lake import carry_out_table
from headgate.topics.live import read_table
from headgate.topics.plan import make_plan
from headgate.topics.tables import compare_table, desired_tables
from headgate.torture.services import until
from serving.tail import new_rows, tail, tailed_output
from spark.delta import DeltaSink

PARTITIONS = 2
COLUMNS = [
    {"name": "id", "type": "long", "required": True},
    {"name": "at", "type": "timestamp"},
    {"name": "value", "type": "double"},
]
SOURCE = {
    "topic": "set below",
    "partitions": PARTITIONS,
    "columns": COLUMNS,
    "rules": [{"name": "in_range", "expect": "value BETWEEN 0 AND 1000"}],
}
OUTPUTS = {
    "rows": {
        "sql": "SELECT id, at, value, _partition AS part, _offset AS place FROM a",
        "to": [{"delta": "rows"}],
        "lane": "arrow",
    },
    "large": {
        "sql": "SELECT id, value FROM a WHERE value >= 500",
        "to": [{"delta": "large"}],
        "lane": "arrow",
    },
}
TYPES = {
    "rows": {"id": "long", "at": "timestamp", "value": "double", "part": "int", "place": "long"},
    "large": {"id": "long", "value": "double"},
}
MORE = {
    "job": {"trigger": "500 milliseconds", "max_records_per_batch": 8_000, "cores": 1, "memory": "1g"},
    "quality": {
        "every": "5 minutes",
        "expectations": [{"output": "rows", "expect": "ExpectColumnValuesToNotBeNull", "column": "id"}],
    },
}
SCHEMA = pa.schema([("n", pa.int64())])


def contract(name: str, lane: str = "arrow") -> FrozenContract:
    outputs = {output: {**spec, "lane": lane} for output, spec in OUTPUTS.items()}
    plain = frozen_of({**SOURCE, "topic": f"{name}-in"}, outputs, TYPES)
    named = plain.contract.model_validate(
        {**plain.contract.model_dump(mode="json", exclude_defaults=True), "pipeline": name, **MORE}
    )
    return freeze(
        named,
        topics={"a": f"{name}-in"},
        replication=1,
        outputs=plain.outputs,
        env="torture",
        headgate_version="0",
    )


@pytest.fixture(scope="module")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s3") / "server.log"


@pytest.fixture(scope="module")
def server(server_log: Path) -> Iterator[str]:
    with s3_server(server_log) as url:
        yield url


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the references name, for the tests' own process."""
    monkeypatch.setenv("LAKE_KEY", ACCESS_KEY)
    monkeypatch.setenv("LAKE_SECRET", SECRET_KEY)


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


# ------------------------------------------------------------------- streams


@pytest.fixture
def stream(server: str, service_environ: dict[str, str], broker: object, tmp_path: Path) -> Iterator[Stream]:
    name = f"s3-{uuid.uuid4().hex[:8]}"
    environ = {
        **service_environ,
        **s3_environ(server, f"live-{name}"),
        "HEADGATE_ENV": "torture",
        "HEADGATE_ROOTS_STATE": str(tmp_path / "state"),
        "HEADGATE_SPARK_UI": "false",
    }
    made = Stream(environ, contract(name))
    try:
        yield made
    finally:
        made.end()


class Feed:
    """What was sent, and what must come of it."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.good: list[int] = []
        self.bad: list[bytes] = []

    def send(self, count: int, bad_every: int, doubtful: bool = False) -> None:
        """`doubtful` times are good, and Spark's to say."""
        at = "2025-10-01T12:00" if doubtful else "2025-10-01 12:00:00"
        values = []
        for _ in range(count):
            number = len(self.good) + len(self.bad)
            record: dict[str, Any] = {"id": number, "at": at, "value": number % 1000}
            if number % bad_every:
                self.good.append(number)
                values.append(json.dumps(record).encode())
            else:
                self.bad.append(json.dumps({**record, "value": -number - 1}).encode())
                values.append(self.bad[-1])
        send(self._stream.settings, self._stream.frozen.topics["a"], values, partitions=PARTITIONS)

    def check(self) -> None:
        rows, quarantined = self._stream.rows("rows"), self._stream.quarantined()
        places = Counter((row["part"], row["place"]) for row in rows)
        assert not [place for place, times in places.items() if times > 1], "a record is there twice"
        assert sorted(row["id"] for row in rows) == self.good
        large = sorted(row["id"] for row in self._stream.rows("large"))
        assert large == [number for number in self.good if number % 1000 >= 500]
        assert Counter(row["value"] for row in quarantined) == Counter(self.bad)
        total = self._stream.books().total
        assert (total.read, total.good, total.quarantined) == (
            len(self.good) + len(self.bad),
            len(self.good),
            len(self.bad),
        )


def test_a_driver_loses_and_doubles_nothing_over_kills_between_the_commits_of_its_tables_and_sparks(stream):
    apply_plan(stream.settings, make_plan(stream.settings, [stream.frozen]), by="tests")
    feed = Feed(stream)
    feed.send(3_000, bad_every=50)
    stream.start()
    stream.until_drained()
    feed.check()
    assert stream.drivers[-1].stop() == 0

    # After one table's commit and before the other's; after the quarantine's; after the last of all.
    for name, hit in (
        ("records.after_delta", 1),
        ("records.after_quarantine", 1),
        ("records.before_commit", 1),
    ):
        failpoints.place(stream.settings, name, Order(name, "kill", hit=hit))
        feed.send(3_000, bad_every=3)
        driver = stream.start()
        driver.exit_code()
        assert (stream.settings.state / "failpoints" / f"{name}.fired").exists(), driver.tail()
        assert stream.torn() or name == "records.after_quarantine"
        driver.kill()
        stream.start()
        stream.until_drained()
        feed.check()
        assert stream.drivers[-1].stop() == 0
    # More than a task carries along: they go to the driver by way of the store.
    feed.send(4_000, bad_every=10, doubtful=True)
    stream.start()
    stream.until_drained()
    feed.check()
    assert stream.drivers[-1].stop() == 0
    _looked_at_from_outside(stream, feed)


def _looked_at_from_outside(stream: Stream, feed: Feed) -> None:
    """The doors beside the driver's, and where nothing may lie."""
    settings, frozen = stream.settings, stream.frozen
    assert {each.severity for each in preflight(settings, frozen)} == {"ok"}
    found = audit(settings, frozen)
    assert (found.difference, found.quarantine_rows) == (0, len(feed.bad))
    checked = subprocess.run(
        [str(Path(sys.executable).with_name("headgate")), "check", stream.pipeline, "--json"],
        env={**os.environ, **stream.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    large = [number for number in feed.good if number % 1000 >= 500]
    rows = {each["output"]: each["rows_checked"] for each in json.loads(checked.stdout)}
    assert rows == {"rows": len(feed.good), "large": len(large)}
    newest = newest_quarantined(settings, stream.pipeline, limit=5)
    assert [each.value in feed.bad and each.rules == ("in_range",) for each in newest] == [True] * 5
    shown = tail(settings, tailed_output(settings, frozen, "large"), last=3, say=print)
    assert all(next(shown).row["id"] in large for _ in range(3))
    sinks = sinks_of(frozen)
    assert {each.written >= 0 for each in _followed(stream, sinks)} == {True}
    named = {
        f"{folder.key}/{path}"
        for folder in (
            *(table_path(settings.tables, stream.pipeline, name) for name in ("rows", "large")),
            quarantine_table(settings.tables, stream.pipeline),
        )
        for path in pa.table(open_table(folder).get_add_actions(flatten=True))["path"].to_pylist()
    }
    tables = settings.tables
    assert isinstance(tables, S3Folder)
    assert named <= set(keys_below(tables))
    below = [
        str(path) for path in settings.state.rglob("*") if "s3:" in path.name or path.suffix == ".parquet"
    ]
    assert below == [], "nothing of a table lies on this disk"
    for file in settings.state.rglob("*"):
        if file.is_file():
            assert SECRET_KEY.encode() not in file.read_bytes(), f"{file} holds the secret"


def _followed(stream: Stream, sinks: Any) -> list[Following]:
    from types import SimpleNamespace

    snapshot = SimpleNamespace(queries={"records": 0}, pipeline=stream.pipeline, lineage=stream.lineage)
    return list(following(stream.layout, snapshot, sinks, stream.settings.tables).values())  # type: ignore[arg-type]


def test_what_cannot_be_on_s3_is_refused_by_the_plan_and_nothing_is_made(stream):
    jvm = contract(stream.pipeline, "jvm")
    plan = make_plan(stream.settings, [jvm])
    (refusal,) = [each for each in plan.refusals if each.code == "tables_on_s3"]
    assert "JVM lane" in refusal.message
    with pytest.raises(RefusedError, match="does not fence its commits on S3"):
        apply_plan(stream.settings, plan, by="tests")
    tables = stream.settings.tables
    assert isinstance(tables, S3Folder)
    assert folders_in(tables / stream.pipeline) == []
    assert not (stream.settings.home / "s3:").exists()
