"""The logs are texts as Spark 4.2 writes them with named sources (v2) and without (v1)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.checkpoints.logs import batch_offsets, batch_watermark, committed_offsets, newest
from headgate.errors import RefusedError

METADATA = {
    "batchWatermarkMs": 0,
    "batchTimestampMs": 1_700_000_000_000,
    "conf": {"spark.sql.shuffle.partitions": "2"},
    "sourceMetadataInfo": {},
}


def offsets(query: Path, batch: int, sources: list[str], *, version: str = "v1", **metadata: object) -> Path:
    path = query / "offsets" / str(batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([version, json.dumps({**METADATA, **metadata}), *sources]))
    return path


def commit(query: Path, batch: int, watermark: int = 0) -> Path:
    path = query / "commits" / str(batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("v1\n" + json.dumps({"nextBatchWatermarkMs": watermark}))
    return path


def line(**topics: dict[int, int]) -> str:
    return json.dumps({name: {str(p): o for p, o in parts.items()} for name, parts in topics.items()})


PARTITIONS = st.dictionaries(st.integers(0, 200), st.integers(0, 2**60), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c-d.e"]), PARTITIONS, min_size=1, max_size=3))
def test_offsets_come_back_as_spark_wrote_them(tmp_path_factory, topics):
    query = tmp_path_factory.mktemp("query")
    offsets(query, 4, [line(**{name: parts}) for name, parts in topics.items()])
    commit(query, 4)
    found = committed_offsets(query)
    assert found is not None
    assert found.offsets == topics
    assert (found.batch_id, found.batch_timestamp_ms) == (4, 1_700_000_000_000)
    assert found.pinned == {"spark.sql.shuffle.partitions": "2"}


def test_only_committed_batches_count(tmp_path):
    for batch in (0, 1, 2):
        offsets(tmp_path, batch, [line(a={0: batch * 10})])
    commit(tmp_path, 0)
    commit(tmp_path, 1)
    found = committed_offsets(tmp_path)
    assert found is not None
    assert (found.batch_id, found.offsets) == (1, {"a": {0: 10}})
    assert newest(tmp_path / "offsets") == 2


def test_batches_are_ordered_as_numbers_and_other_files_are_passed_over(tmp_path):
    for batch in (9, 10, 100):
        offsets(tmp_path, batch, [line(a={0: batch})])
        commit(tmp_path, batch)
    for name in (".100.crc", "99.compact.tmp", "101.tmp"):
        (tmp_path / "commits" / name).write_text("")
    assert newest(tmp_path / "commits") == 100


def test_there_is_nothing_before_the_first_commit(tmp_path):
    assert committed_offsets(tmp_path) is None
    offsets(tmp_path, 0, [line(a={0: 1})])
    assert committed_offsets(tmp_path) is None
    assert newest(tmp_path / "nowhere") is None


def test_a_source_without_data_yet_has_no_offsets(tmp_path):
    offsets(tmp_path, 0, ["-", line(b={0: 3}), ""])
    commit(tmp_path, 0)
    found = committed_offsets(tmp_path)
    assert found is not None
    assert found.offsets == {"b": {0: 3}}


def test_the_watermark_is_the_one_reached_with_the_commit(tmp_path):
    offsets(tmp_path, 0, [line(a={0: 1})], batchWatermarkMs=5_000)
    assert batch_offsets(tmp_path, 0).watermark_ms == 5_000
    commit(tmp_path, 0, watermark=9_000)
    assert batch_offsets(tmp_path, 0).watermark_ms == 9_000
    assert batch_watermark(tmp_path, 0) == 5.0
    offsets(tmp_path, 1, [line(a={0: 1})])
    assert batch_offsets(tmp_path, 1).watermark_ms is None
    assert batch_watermark(tmp_path, 1) is None


GOOD = f"v1\n{json.dumps(METADATA)}\n{line(a={0: 1})}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1",
        "v1\n",
        "v1\n{",
        "v1\n{}",
        "v1\n[]\n{}",
        GOOD[:-4],
        GOOD.replace("v1", "garbage", 1),
        GOOD.replace('{"0": 1}', '"x"'),
        GOOD.replace('{"0": 1}', '{"x": 1}'),
        GOOD.replace('{"a"', '{"a": [1], "b"').replace("{0", "{"),
        "\x00" * 40,
    ],
)
def test_a_damaged_offset_file_is_refused_with_its_name(text, tmp_path):
    path = offsets(tmp_path, 3, [])
    path.write_text(text)
    commit(tmp_path, 3)
    with pytest.raises(RefusedError) as caught:
        committed_offsets(tmp_path)
    assert str(path) in caught.value.message
    assert caught.value.help


def test_bytes_that_are_no_text_are_refused_with_the_files_name(tmp_path):
    path = offsets(tmp_path, 3, [])
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RefusedError, match="3 cannot be used"):
        batch_offsets(tmp_path, 3)


def test_a_commit_without_its_offsets_is_refused(tmp_path):
    commit(tmp_path, 7)
    with pytest.raises(RefusedError, match="offsets/7 cannot be used"):
        committed_offsets(tmp_path)


@pytest.mark.parametrize("text", ["", "v1", "v1\n{", "v1\n[]", 'v1\n{"nextBatchWatermarkMs": "x"}'])
def test_a_damaged_commit_is_refused_with_its_name(text, tmp_path):
    offsets(tmp_path, 0, [line(a={0: 1})])
    path = commit(tmp_path, 0)
    path.write_text(text)
    with pytest.raises(RefusedError) as caught:
        committed_offsets(tmp_path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("text", ["v1\n{", "v1\n[]", 'v1\n{"batchWatermarkMs": "x"}'])
def test_a_damaged_file_has_no_watermark_and_is_refused_with_its_name(text, tmp_path):
    path = offsets(tmp_path, 0, [])
    path.write_text(text)
    with pytest.raises(RefusedError) as caught:
        batch_watermark(tmp_path, 0)
    assert str(path) in caught.value.message
