from __future__ import annotations

import json

from driver_report import status_file

from headgate.streams.model import DriverStatus
from spark.progress import offsets_read


def test_each_change_is_on_disk_whole_and_without_drafts(tmp_path):
    path = tmp_path / "streams" / "s" / "status.json"
    file = status_file(path, 1)
    file.change(phase="running", metrics_port=9)
    data = json.loads(path.read_text())
    assert (data["phase"], data["metrics_port"]) == ("running", 9)
    assert data["written_at"] > 0
    assert [entry.name for entry in path.parent.iterdir()] == ["status.json"]
    assert DriverStatus.from_json(data) == file.status


def test_a_query_keeps_what_a_change_does_not_touch(tmp_path):
    from dataclasses import replace

    file = status_file(tmp_path / "status.json", 1)
    file.query("records", lambda before: replace(before, batch_id=4))
    file.query("records", lambda before: replace(before, rows=7))
    progress = file.status.queries["records"]
    assert (progress.batch_id, progress.rows) == (4, 7)


def test_a_driver_that_was_fenced_leaves_the_file_to_the_newer_one(tmp_path):
    path = tmp_path / "status.json"
    old, new = status_file(path, 1), status_file(path, 2)
    old.change(phase="running")
    new.change(phase="running")
    old.change(phase="failed", failure_class="fenced")
    data = json.loads(path.read_text())
    assert (data["epoch"], data["phase"], data["failure_class"]) == (2, "running", None)


def test_a_damaged_file_is_written_anew(tmp_path):
    path = tmp_path / "status.json"
    for text in ("", "{", "[]", '{"epoch": "x"}'):
        path.write_text(text)
        status_file(path, 1).change(phase="running")
        assert json.loads(path.read_text())["phase"] == "running"


def test_who_has_claimed_the_checkpoint_writes_over_what_a_wiped_history_left(tmp_path):
    path = tmp_path / "status.json"
    status_file(path, 9).change(phase="running")
    fresh = status_file(path, 1)
    fresh.change(phase="starting")
    assert json.loads(path.read_text())["epoch"] == 9
    fresh.take_over()
    fresh.change(phase="running")
    data = json.loads(path.read_text())
    assert (data["epoch"], data["phase"]) == (1, "running")


def test_a_batch_is_counted_by_offsets_however_often_its_rows_were_computed():
    source = {
        "startOffset": {"t": {"0": 5, "1": 7}},
        "endOffset": {"t": {"0": 9, "1": 7, "2": 4}},  # a new partition: where it begins is not told
        "numInputRows": 8,
    }
    assert offsets_read({"sources": [source]}, rows=False) == {"t": 4}
    assert offsets_read({"sources": [source, {**source, "endOffset": None}]}, rows=True) == {"t": 4}


def test_rows_stand_for_the_offsets_of_a_first_batch_only_where_they_are_counted_once():
    first = {"startOffset": None, "endOffset": {"t": {"0": 9}}, "numInputRows": 8}
    assert offsets_read({"sources": [first]}, rows=True) == {"t": 8}
    assert offsets_read({"sources": [first]}, rows=False) == {}
