"""When a query of a replay has come to the end of its range."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.batches.sample import Reading
from spark import replay as module
from spark.replay import ReplayDriver, reached


def batch(
    query: Path, number: int, offsets: dict[str, dict[str, int]], watermark: int, following: int
) -> None:
    for log in ("offsets", "commits"):
        (query / log).mkdir(parents=True, exist_ok=True)
    head = json.dumps({"batchWatermarkMs": watermark, "batchTimestampMs": 1, "conf": {}})
    (query / "offsets" / str(number)).write_text(f"v1\n{head}\n{json.dumps(offsets)}")
    (query / "commits" / str(number)).write_text(f'v1\n{{"nextBatchWatermarkMs":{following}}}')


@pytest.mark.parametrize(
    ("read", "there"),
    [({"0": 9, "1": 5}, False), ({"0": 10, "1": 5}, True), ({"0": 12, "1": 9}, True), ({"0": 10}, False)],
)
def test_every_partition_of_the_range_must_be_committed_to_its_end(tmp_path, read, there):
    ends = {"t": {0: 10, 1: 5}}
    assert not reached(tmp_path, ends, settled=False)
    batch(tmp_path, 0, {"t": read}, 0, 0)
    assert reached(tmp_path, ends, settled=False) == there


def test_what_a_last_watermark_closes_is_waited_for(tmp_path):
    batch(tmp_path, 0, {"t": {"0": 10}}, 5_000, 9_000)
    assert reached(tmp_path, {"t": {0: 10}}, settled=False)
    assert not reached(tmp_path, {"t": {0: 10}}, settled=True)
    batch(tmp_path, 1, {"t": {"0": 12}}, 9_000, 9_000)
    assert reached(tmp_path, {"t": {0: 10}}, settled=True)


def test_a_topic_that_a_function_may_not_read_is_not_waited_for(tmp_path):
    batch(tmp_path, 0, {"t": {"0": 10}}, 0, 0)
    ends = {"t": {0: 10}, "other": {0: 3}}
    assert not reached(tmp_path, ends, settled=False)
    assert reached(tmp_path, ends, settled=False, told=False)


def test_a_replay_reads_records_by_the_schemas_that_they_were_written_with(monkeypatch):
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("spark.window.stateful_frame", lambda *_, **options: asked.append(options))
    driver = ReplayDriver.__new__(ReplayDriver)
    driver._settings = driver._frozen = SimpleNamespace()  # type: ignore[assignment]
    driver._replay = SimpleNamespace(end={"t": {0: 3}})  # type: ignore[assignment]
    driver._writers = {"a": dict}
    monkeypatch.setattr(ReplayDriver, "_upserts", lambda *_: True)
    context: Any = SimpleNamespace(frozen=None, caps=SimpleNamespace(of={"per_minute": {"a": 5}}.get))
    driver._changes(None, context, "per_minute", {})  # type: ignore[arg-type]
    assert asked == [{"ends": {"t": {0: 3}}, "caps": {"a": 5}, "late": False, "writers": {"a": dict}}]


def test_a_replay_is_sized_by_the_records_of_its_own_range_or_by_what_the_live_stream_measured(
    tmp_path, monkeypatch
):
    begun: list[tuple[Any, ...]] = []
    monkeypatch.setattr(module, "RecordSizes", lambda *told: begun.append(told))
    driver = ReplayDriver.__new__(ReplayDriver)
    driver._settings = SimpleNamespace()  # type: ignore[assignment]
    driver._live = SimpleNamespace(checkpoints=tmp_path)  # type: ignore[assignment]
    driver._replay = SimpleNamespace(pipeline="shop", end={"t": {0: 8}})  # type: ignore[assignment]
    context: Any = SimpleNamespace(frozen=None, caps=None)
    driver._sized(context, lambda: {"t": Reading(begin={0: 3}), "other": Reading(begin={0: 1})})
    ((_, _, _, look, kept),) = begun
    assert kept == tmp_path / "shop" / "sizes.json"
    assert look() == {"t": Reading(begin={0: 3}, end={0: 8}), "other": Reading(begin={0: 1}, end={})}
