"""What an earlier driver measured: a hint, which no start and no batch may fail of."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from headgate.batches.kept import KeptSizes, read_sizes


def test_what_was_kept_is_found_by_the_next_driver(tmp_path):
    path = tmp_path / "sizes.json"
    KeptSizes(path).keep({"ta": 1_000.0})
    KeptSizes(path).keep({"tb": 20.5})
    assert KeptSizes(path).found == {"ta": 1_000.0, "tb": 20.5}
    assert [each.name for each in tmp_path.iterdir()] == ["sizes.json"]


def test_what_has_hardly_changed_is_not_written_again(tmp_path):
    path = tmp_path / "sizes.json"
    kept = KeptSizes(path)
    for mean in (1_000.0, 1_240.0, 810.0):
        kept.keep({"ta": mean})
        assert read_sizes(path) == {"ta": 1_000.0}
    kept.keep({"ta": 1_260.0})
    assert read_sizes(path) == {"ta": 1_260.0}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"ta": "x"}', '{"ta": null}', "7"])
def test_a_file_that_is_none_is_as_good_as_none(tmp_path, text):
    path = tmp_path / "sizes.json"
    assert read_sizes(path) == {}
    path.write_text(text)
    assert read_sizes(path) == {}


def test_a_folder_that_cannot_be_written_is_told_once_and_fails_nothing(tmp_path, caplog):
    path: Path = tmp_path / "gone" / "sizes.json"
    kept = KeptSizes(path)
    with caplog.at_level(logging.WARNING):
        for mean in (1.0, 2.0, 4.0):
            kept.keep({"ta": mean})
    assert caplog.text.count("cannot be written") == 1
    path.parent.mkdir()
    kept.keep({"ta": 8.0})
    assert read_sizes(path) == {"ta": 8.0}
