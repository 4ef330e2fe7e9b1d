from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kafka import TopicPartition
from kafka.errors import GroupAuthorizationFailedError, KafkaError, NotCoordinatorError

from bench.dataset import Dataset, Expected
from bench.gate import NotExactError, check_plain_records, check_records, check_windows, read_parquet
from bench.parts import BY_NAME_ONLY, PARTS, chosen
from bench.peers import compare, flink_records, flink_windows
from bench.peers.environment import flink_jars, locked_versions, versions
from bench.peers.flink import settings, sink, source
from bench.peers.flink_process import _committed
from bench.peers.hotspots import area_of, read_recording, recording, shares, stacks
from bench.peers.progress import checkpoints, steady_between
from bench.processor import Sample, between, kind_of, looking, parse_stat, resident_of
from bench.rates import spread
from bench.report import results_text
from bench.throughput import JOBS
from headgate.local.jars import Jar

ROOT = Path(__file__).resolve().parents[3]


def _options(**more: object) -> argparse.Namespace:
    chosen = {"brokers": "127.0.0.1:1", "topic": "t", "group": "g", "table": "/tmp/t", "checkpoint": "/tmp/c"}
    return argparse.Namespace(**{**chosen, "jars": "file:///a.jar", "interval": 5000, **more})


def test_readers_that_commit_within_moments_have_committed_one_checkpoint() -> None:
    sights = [(1.0, 0), (2.0, 0), (5.0, 300), (5.2, 600), (5.4, 600), (10.0, 900), (10.3, 1300)]
    assert checkpoints(sights) == [(5.2, 600), (10.3, 1300)]


def test_a_look_that_finds_nothing_new_is_no_checkpoint() -> None:
    assert checkpoints([(1.0, 0), (2.0, 10), (3.0, 10), (4.0, 10)]) == [(2.0, 10)]
    assert checkpoints([]) == []


def test_a_rate_goes_from_the_first_batch_to_the_last_checkpoint_before_the_end() -> None:
    points = [(5.0, 600), (10.0, 1300), (15.0, 2300), (20.0, 3300), (25.0, 4000)]
    part = steady_between(points, first=1000, total=4000)
    assert (part.begun, part.ended, part.records) == (10.0, 20.0, 2000)
    assert part.rate == 200.0


@pytest.mark.parametrize("points", [[], [(5.0, 1000), (10.0, 4000)], [(5.0, 900), (6.0, 2000), (9.0, 4000)]])
def test_one_checkpoint_on_the_way_gives_no_rate(points: list[tuple[float, int]]) -> None:
    with pytest.raises(ValueError, match="two checkpoints"):
        steady_between(points, first=1000, total=4000)


def test_a_trial_has_shorter_intervals_between_checkpoints() -> None:
    assert compare.interval_ms(1_000_000) == 5000
    assert compare.interval_ms(50_000) == 1000


def test_flinks_jobs_checkpoint_exactly_once_with_two_slots_and_end_when_they_fail() -> None:
    found = settings(_options())
    assert found["execution.checkpointing.mode"] == "EXACTLY_ONCE"
    assert found["execution.checkpointing.interval"] == "5000 ms"
    assert found["parallelism.default"] == "2"
    assert found["restart-strategy.type"] == "none"
    assert found["pipeline.object-reuse"] == "true"


def test_the_topic_is_read_from_its_beginning_to_its_end_with_a_watermark_where_it_is_needed() -> None:
    text = source(_options(topic="bench_clean"), watermark=True)
    assert "'topic' = 'bench_clean'" in text
    assert "'scan.startup.mode' = 'earliest-offset'" in text
    assert "'scan.bounded.mode' = 'latest-offset'" in text
    assert "WATERMARK FOR ts AS ts - INTERVAL '30' SECOND" in text
    assert "WATERMARK" not in source(_options(), watermark=False)


def test_files_are_written_to_the_table_that_is_asked_for() -> None:
    text = sink(_options(table="/x/table"), "kept", "seq BIGINT")
    assert text.startswith("CREATE TEMPORARY TABLE kept (seq BIGINT) WITH ('connector' = 'filesystem'")
    assert "'path' = 'file:///x/table'" in text


class _Admin:
    """Answers with the offsets of a group, or with an error."""

    def __init__(self, answer: Mapping[TopicPartition, int] | KafkaError) -> None:
        self.answer = answer

    def list_group_offsets(self, groups: Mapping[str, Sequence[TopicPartition]]) -> dict[str, Any]:
        if isinstance(self.answer, KafkaError):
            raise self.answer
        [group] = groups
        return {group: {at: SimpleNamespace(offset=offset) for at, offset in self.answer.items()}}


def test_progress_is_the_sum_of_what_is_committed_and_a_partition_without_an_offset_has_none() -> None:
    partitions = [TopicPartition("t", number) for number in range(3)]
    admin: Any = _Admin(dict(zip(partitions, (10, -1, 7), strict=True)))
    assert _committed(admin, "g", partitions) == 17


def test_while_the_broker_makes_the_topic_of_offsets_nothing_is_committed() -> None:
    coming: Any = _Admin(NotCoordinatorError("not yet"))
    assert _committed(coming, "g", []) == 0
    refused: Any = _Admin(GroupAuthorizationFailedError("no"))
    with pytest.raises(GroupAuthorizationFailedError):
        _committed(refused, "g", [])


class _Tables:
    """What a job asks of Flink, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waited = False

    def execute_sql(self, text: str) -> _Tables:
        self.asked.append(text)
        return self

    def wait(self) -> None:
        self.waited = True


@pytest.mark.parametrize(
    ("job", "insert"),
    [(flink_records, "INSERT INTO kept"), (flink_windows, "INSERT INTO windows")],
)
def test_a_job_makes_its_two_tables_and_waits_until_its_insert_has_ended(
    job: Any, insert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = _Tables()
    monkeypatch.setattr(job, "environment", lambda options: tables)
    job.run(_options())
    readings, files, query = tables.asked
    assert readings.startswith("CREATE TEMPORARY TABLE readings")
    assert "'connector' = 'filesystem'" in files
    assert query.startswith(insert)
    assert tables.waited


def test_windows_are_computed_with_the_aggregates_of_the_other_sides() -> None:
    for part in ("COUNT(*)", "AVG(`value`)", "STDDEV_SAMP(`value`)", "MIN(`value`)", "MAX(`value`)"):
        assert part in flink_windows._QUERY
    assert "INTERVAL '10' SECOND" in flink_windows._QUERY


def _write(folder: Path, name: str, **columns: Any) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)


def _expected() -> Expected:
    return Dataset(8000).expected()


def test_committed_files_are_read_and_what_is_not_committed_is_not(tmp_path: Path) -> None:
    numbers = list(range(10_000_000, 10_008_000))
    _write(tmp_path / "t", "part-1-0", seq=numbers[:5000])
    _write(tmp_path / "t", "part-1-1", seq=numbers[5000:])
    _write(tmp_path / "t", ".part-1-2.inprogress", seq=numbers[:10])
    check_records(tmp_path / "t", _expected(), read_parquet)


def test_a_record_that_was_written_twice_is_found(tmp_path: Path) -> None:
    numbers = list(range(10_000_000, 10_008_000))
    _write(tmp_path / "t", "part-1-0", seq=[*numbers[:-1], numbers[0]])
    with pytest.raises(NotExactError, match="sum of seq"):
        check_records(tmp_path / "t", _expected(), read_parquet)


def test_of_a_job_that_screens_nothing_every_readable_record_is_looked_for(tmp_path: Path) -> None:
    expected = Dataset(1200, bad_every=100).expected(screened=False)
    damaged = {
        number for number in range(1200) if number // 100 % 3 == 2 and number % 100 == number // 100 % 4
    }
    numbers = [None if number in damaged else 10_000_000 + number for number in range(1200)]
    _write(tmp_path / "right", "part-1-0", seq=numbers)
    check_plain_records(tmp_path / "right", expected, read_parquet)
    _write(tmp_path / "nulled", "part-1-0", seq=[None, *numbers[1:]])
    with pytest.raises(NotExactError, match="rows with a number"):
        check_plain_records(tmp_path / "nulled", expected, read_parquet)
    _write(tmp_path / "doubled", "part-1-0", seq=[10_000_001, *numbers[1:]])
    with pytest.raises(NotExactError, match="sum of seq"):
        check_plain_records(tmp_path / "doubled", expected, read_parquet)


@pytest.mark.parametrize("off", [0, 1])
def test_at_the_end_of_the_input_every_window_counts(off: int, tmp_path: Path) -> None:
    expected = _expected()
    assert len({start for start, _ in expected.windows}) == 1  # a watermark would have closed none
    rows = {
        "start": pa.array([start * 1000 for start, _ in expected.windows], pa.timestamp("us")),
        "device": [f"d-{device:03}" for _, device in expected.windows],
        "readings": list(expected.windows.values()),
    }
    rows["readings"][0] += off
    _write(tmp_path / "t", "part-1-0", **rows)
    if off:
        with pytest.raises(NotExactError, match="1 windows are not what a recount gives"):
            check_windows(tmp_path / "t", expected, read_parquet, watermark_ms=None)
    else:
        check_windows(tmp_path / "t", expected, read_parquet, watermark_ms=None)
        with pytest.raises(NotExactError, match="closed windows: 200, expected 0"):
            check_windows(tmp_path / "t", expected, read_parquet)


def test_a_threads_name_may_hold_spaces_and_parentheses() -> None:
    text = "7 (Source: t (1/2)) S " + " ".join(["0"] * 10) + " 250 50 0 0 20 0"
    name, seconds = parse_stat(text)
    assert name == "Source: t (1/2)"
    assert seconds == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("process", "thread", "kind"),
    [
        ("java", "C2 CompilerThre", "JVM compilers"),
        ("java", "G1 Conc#0", "JVM collector"),
        ("java", "Executor task l", "Spark's tasks"),
        ("java", "Source: reading", "Flink's sources and what is chained to them"),
        ("java", "kafka-producer-", "JVM, other threads"),
        ("python3.11", "python", "Python"),
    ],
)
def test_a_thread_is_of_a_kind(process: str, thread: str, kind: str) -> None:
    assert kind_of(process, thread) == kind


def test_the_memory_of_a_process_is_its_own_and_that_of_one_that_has_ended_is_none() -> None:
    waits = [sys.executable, "-c", "input()"]
    found: list[tuple[int, int]] = []
    with subprocess.Popen(waits, stdin=subprocess.PIPE) as child:
        process = psutil.Process(child.pid)
        with looking(lambda: found.append(resident_of(process)), 0.01):
            until = time.monotonic() + 60
            while not (found and found[-1][1] > 2**20) and time.monotonic() < until:
                time.sleep(0.01)
        child.kill()
    assert found[-1][1] > 2**20
    assert {jvm for jvm, _ in found} == {0}
    assert resident_of(process) == (0, 0)


def test_processor_time_is_what_was_spent_between_two_looks() -> None:
    samples = [Sample(1.0, {"a": 1.0}), Sample(2.0, {"a": 3.0, "b": 1.0}), Sample(3.0, {"a": 3.0, "b": 5.0})]
    assert between(samples, 1.5, 3.5) == {"a": 2.0, "b": 5.0}
    assert between(samples, 2.0, 3.0) == {"b": 4.0}
    assert between([], 1.0, 2.0) == {}


def test_peers_run_by_name_only() -> None:
    assert "peers" not in chosen([])
    assert chosen([]) == [part for part in PARTS if part not in BY_NAME_ONLY]
    assert chosen(["peers", "records"]) == ["records", "peers"]


def test_each_job_of_the_comparison_has_something_to_reach_and_a_job_of_flink() -> None:
    assert set(compare.TARGETS) == set(compare.MODULES) <= {job.name for job in JOBS}
    for module in compare.MODULES.values():
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file()


def test_the_locks_name_one_flink_and_its_connectors() -> None:
    found = locked_versions()
    assert set(found) == {"PyFlink", "flink-sql-connector-kafka", "flink-sql-parquet"}
    assert found["flink-sql-parquet"] == found["PyFlink"]
    flink_of_connector = found["flink-sql-connector-kafka"].rpartition("-")[2]
    assert flink_of_connector.split(".")[0] == found["PyFlink"].split(".")[0]
    names = [jar.file_name for jar in flink_jars().jars]
    assert len(names) == len(set(names))


def test_a_lock_without_flink_is_refused() -> None:
    with pytest.raises(ValueError, match="names no apache-flink"):
        versions("apache-flink-libraries==1\n", (Jar("g", "a", "1", "", "0" * 64),))


def _result(**more: Any) -> dict[str, Any]:
    machine = {"processor": "P", "cores": 2, "memory_gib": 24.0, "system": "Linux 1"}
    return {
        "part": "peers",
        "job": "peers-windows",
        "at": 1.0,
        "command": "python -m bench peers",
        "records": 16_000_000,
        "interval": 5.0,
        "flink": spread([200.0, 220.0, 210.0]).to_json(),
        "headgate": spread([90.0, 95.0, 99.0]).to_json(),
        "ratio": 0.452,
        "target": 1.0,
        "processor": {
            "flink": {"JVM compilers": 0.5, "Flink's windows": 2.0},
            "headgate": {"Python": 4.0, "Spark's tasks": 6.25, "JVM collector": 0.001},
        },
        "hotspots": {},
        "peer": {"PyFlink": "2.2.1"},
        "machine": {**machine, "filesystem": "ext4", "loop_seconds": 1.0},
        "versions": {"headgate": "0.1.0"},
        **more,
    }


def test_the_sides_stand_beside_each_other_and_where_their_time_goes() -> None:
    text = results_text([_result()])
    assert "| windows | 16,000,000 | 5 s | 210 (200–220) | 95 (90–99) | 0.45 | 1.00 |" in text
    assert "| windows | PyFlink | 2.50 | Flink's windows 2.00 · JVM compilers 0.50 |" in text
    assert "| windows | headgate | 10.25 | Spark's tasks 6.25 · Python 4.00 |" in text
    assert "Versions of the other side: PyFlink 2.2.1." in text
    assert "Parquet files" in text


def test_what_is_not_reached_says_where_the_threads_were() -> None:
    text = results_text(
        [_result(hotspots={"headgate": {"state": 0.614, "parsing JSON": 0.38, "files": 0.006}})]
    )
    assert "| windows | headgate | state 61% · parsing JSON 38% |" in text
    assert "not reached" not in results_text([_result()])


_PRINTED = """
jdk.ExecutionSample {
  startTime = 18:16:33.876
  sampledThread = "Executor task launch worker for task 0.0 in stage 1.0 (TID 1)" (javaThreadId = 77)
  stackTrace = [
    org.apache.spark.unsafe.types.UTF8String.fromBytes(byte[]) line: 1
    org.apache.spark.sql.catalyst.json.JacksonParser.parse(Object, Function2, Function1) line: 2
    org.apache.spark.sql.execution.aggregate.HashAggregateExec.x() line: 3
  ]
}

jdk.NativeMethodSample {
  sampledThread = "Source Data Fetcher for Source: readings" (javaThreadId = 78)
  stackTrace = [
    sun.nio.ch.EPoll.wait(int, long, int, int)
    org.apache.kafka.common.network.Selector.select(long) line: 9
  ]
}

jdk.NativeMethodSample {
  sampledThread = "Executor task launch worker for task 1.0 in stage 1.0 (TID 2)" (javaThreadId = 77)
  stackTrace = [
    org.rocksdb.RocksDB.get(long, byte[], int, int)
  ]
}

jdk.ExecutionSample {
  sampledThread = "main" (javaThreadId = 1)
  stackTrace = [
    org.apache.kafka.clients.consumer.ConsumerConfig.<clinit>() line: 1
  ]
}
"""


def test_samples_of_working_threads_count_for_the_innermost_frame_that_has_a_place() -> None:
    found = list(stacks(_PRINTED))
    assert [area_of(frames) for frames in found] == ["parsing JSON", "state"]
    assert area_of(["java.lang.Thread.run() line: 1"]) == "elsewhere"


def test_shares_are_told_from_the_greatest_on() -> None:
    assert list(shares({"a": 1, "b": 3}).items()) == [("b", 0.75), ("a", 0.25)]
    assert shares({}) == {}


def test_a_recording_leaves_javas_options_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "profile" / "x.jfr"
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dmine=1")
    with recording(file, 20):
        assert os.environ["JAVA_TOOL_OPTIONS"].startswith("-Dmine=1 -Xlog:jfr")
        assert f"delay=20s,duration=20s,filename={file}" in os.environ["JAVA_TOOL_OPTIONS"]
    assert os.environ["JAVA_TOOL_OPTIONS"] == "-Dmine=1"
    monkeypatch.delenv("JAVA_TOOL_OPTIONS")
    with recording(file, 20):
        pass
    assert "JAVA_TOOL_OPTIONS" not in os.environ


def test_a_run_that_was_too_short_to_record_has_no_hotspots(tmp_path: Path) -> None:
    assert read_recording(tmp_path / "none.jfr") == {}


def test_a_comparison_is_told_in_one_line_that_begins_with_its_ratio() -> None:
    assert compare.show(_result()) == "ratio peers-windows 0.45 · flink 210/s · headgate 95/s"
