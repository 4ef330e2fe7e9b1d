"""Where a sample is to look: at what the query that is furthest behind reads next."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.batches.sample import Reading
from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from spark.starts import readings


def commit(query: Path, offsets: dict[str, dict[str, int]]) -> None:
    for log in ("offsets", "commits"):
        (query / log).mkdir(parents=True)
    head = json.dumps({"batchWatermarkMs": 0, "batchTimestampMs": 1, "conf": {}})
    (query / "offsets" / "0").write_text(f"v1\n{head}\n{json.dumps(offsets)}")
    (query / "commits" / "0").write_text('v1\n{"nextBatchWatermarkMs":0}')


def of(tmp_path: Path, start: str, starts: Any, **commits: dict[str, dict[str, int]]) -> dict[str, Reading]:
    layout = CheckpointLayout(tmp_path, "shop")
    for query, offsets in commits.items():
        commit(layout.query("l1", query), offsets)
    source = SimpleNamespace(start=start)
    frozen: Any = SimpleNamespace(
        topics={"a": "ta"},
        stateful_outputs=("o",),
        contract=SimpleNamespace(sources={"a": source}),
    )
    lineage: Any = SimpleNamespace(id="l1")
    return readings(frozen, layout, lineage, starts)


@pytest.mark.parametrize(("start", "begin"), [("earliest", {}), ("latest", None)])
def test_a_new_checkpoint_begins_where_the_contract_says(tmp_path, start, begin):
    assert of(tmp_path, start, {}) == {"ta": Reading(begin=begin)}


def test_a_lineage_with_an_origin_begins_there(tmp_path):
    starts = {RECORDS: {"ta": {0: 7, 1: -2}}, "o": {"ta": {0: 9, 1: 3}}}
    assert of(tmp_path, "latest", starts) == {"ta": Reading(begin={0: 7, 1: -2})}


def test_a_query_with_commits_goes_on_after_them_and_the_one_that_is_behind_counts(tmp_path):
    committed = {RECORDS: {"ta": {"0": 50, "1": 20}}, "o": {"ta": {"0": 40, "1": 30, "2": 5}}}
    assert of(tmp_path, "latest", {}, **committed) == {"ta": Reading(begin={0: 40, 1: 20})}


def test_a_query_that_has_not_begun_reads_all_there_is(tmp_path):
    assert of(tmp_path, "earliest", {}, **{RECORDS: {"ta": {"0": 50}}}) == {"ta": Reading(begin={})}
