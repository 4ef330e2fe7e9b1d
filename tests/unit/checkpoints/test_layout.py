from __future__ import annotations

from pathlib import Path

from headgate.checkpoints.layout import CheckpointLayout, quarantine_table, table_path, transaction_id

LAYOUT = CheckpointLayout(Path("/c"), "logs")


def test_every_path_is_below_the_pipelines_folder_and_holds_lineage_and_query():
    assert LAYOUT.current == Path("/c/logs/current")
    assert LAYOUT.owners == Path("/c/logs/_owner")
    assert LAYOUT.query("1-ab", "records") == Path("/c/logs/1-ab/queries/records")
    assert LAYOUT.books("1-ab") == Path("/c/logs/1-ab/books")
    assert LAYOUT.schemas("1-ab", "f" * 64) == Path(f"/c/logs/_schemas/1-ab-{'f' * 16}.jsonl")


def test_a_transaction_is_known_by_pipeline_query_output_and_lineage_alone():
    assert transaction_id("logs", "records", "copy", "1-ab") == "headgate/logs/records/copy/1-ab"


def test_the_quarantine_cannot_be_the_table_of_an_output():
    assert quarantine_table(Path("/t"), "logs") == table_path(Path("/t"), "logs", "_quarantine")


def test_the_current_lineage_is_one_line_and_none_before_the_first_start(tmp_path):
    layout = CheckpointLayout(tmp_path, "logs")
    assert layout.current_lineage() is None
    layout.folder.mkdir()
    layout.current.write_text("1-ab\n")
    assert layout.current_lineage() == "1-ab"
    layout.current.write_text("\n")
    assert layout.current_lineage() is None
