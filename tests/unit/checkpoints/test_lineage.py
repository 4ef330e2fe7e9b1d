from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from headgate.checkpoints import lineage
from headgate.checkpoints.layout import CheckpointLayout, transaction_id
from headgate.checkpoints.lineage import Lineage, begin_lineage, open_lineage, read_lineage
from headgate.errors import RefusedError


def opened(layout: CheckpointLayout, *tables: Path) -> Lineage:
    return open_lineage(layout, contract_hash="abc", spark_version="4.2.0", at=1.0, tables=tables)


def written(table: Path, pipeline: str | None) -> Path:
    """A Delta table, made as `apply` makes it, and with one commit of a pipeline's driver."""
    table.parent.mkdir(parents=True, exist_ok=True)
    rows = pa.table({"x": pa.array([1], pa.int64())})
    DeltaTable.create(str(table), schema=rows.schema)
    if pipeline is not None:
        transaction = Transaction(transaction_id(pipeline, "records", "copy", "1-ab"), 0)
        properties = CommitProperties(app_transactions=[transaction])
        write_deltalake(str(table), rows, mode="append", commit_properties=properties)
    return table


def test_the_first_start_begins_a_lineage_that_the_next_start_finds(tmp_path):
    layout = CheckpointLayout(tmp_path, "logs")
    first = opened(layout)
    assert (first.pipeline, first.contract_hash, first.begun_at) == ("logs", "abc", 1.0)
    assert layout.current_lineage() == first.id
    assert opened(layout) == first


def test_a_new_lineage_never_has_the_id_of_an_old_one(tmp_path):
    layout = CheckpointLayout(tmp_path, "logs")
    ids = [begin_lineage(layout, contract_hash="a", spark_version="4", at=0.0).id for _ in range(20)]
    assert len(set(ids)) == 20
    assert layout.current_lineage() == ids[-1]
    assert [int(one.split("-")[0]) for one in ids] == list(range(1, 21))


def test_tables_that_apply_has_just_made_are_no_history(tmp_path):
    layout = CheckpointLayout(tmp_path / "c", "logs")
    opened(layout, written(tmp_path / "t" / "copy", None), tmp_path / "t" / "not-made-yet")
    assert layout.current_lineage() is not None


def test_a_file_of_a_log_that_is_cleaned_up_between_list_and_get_hides_no_history(tmp_path, monkeypatch):
    table = written(tmp_path / "t" / "copy", "logs")

    def cleaned(file: Path) -> str:
        raise FileNotFoundError(file)

    monkeypatch.setattr(lineage, "read_text", cleaned)
    assert not lineage.has_history(table, "logs")
    DeltaTable(str(table)).create_checkpoint()
    assert lineage.has_history(table, "logs")


def test_a_checkpoint_that_is_gone_while_tables_have_history_is_refused(tmp_path):
    layout = CheckpointLayout(tmp_path / "c", "logs")
    empty = written(tmp_path / "t" / "empty", None)
    full = written(tmp_path / "t" / "copy", "logs")
    with pytest.raises(RefusedError) as caught:
        opened(layout, empty, full)
    assert "the checkpoint of logs is gone" in caught.value.message
    assert caught.value.message.endswith("committed: copy")
    assert "restore" in str(caught.value.help)
    assert not layout.folder.exists()  # a refusal begins nothing


def test_history_that_is_only_in_deltas_own_checkpoint_is_history_too(tmp_path):
    layout = CheckpointLayout(tmp_path / "c", "logs")
    table = written(tmp_path / "t" / "copy", "logs")
    DeltaTable(str(table)).create_checkpoint()
    for entry in (table / "_delta_log").glob("*.json"):
        entry.unlink()
    with pytest.raises(RefusedError, match="is gone"):
        opened(layout, table)


def test_what_another_pipeline_wrote_is_not_this_ones_history(tmp_path):
    layout = CheckpointLayout(tmp_path / "c", "logs")
    opened(layout, written(tmp_path / "t" / "copy", "logs-2"))
    assert layout.current_lineage() is not None


def test_a_checkpoint_of_another_pipeline_is_refused(tmp_path):
    other = CheckpointLayout(tmp_path, "other")
    opened(other)
    shutil.copytree(other.folder, tmp_path / "logs")
    with pytest.raises(RefusedError, match="belongs to pipeline other, not logs"):
        opened(CheckpointLayout(tmp_path, "logs"))


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"id": "x"}', "\x00\x00"])
def test_a_damaged_note_is_refused_with_its_name(text, tmp_path):
    layout = CheckpointLayout(tmp_path, "logs")
    lineage = opened(layout)
    path = layout.lineage(lineage.id) / "lineage.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(RefusedError) as caught:
        opened(layout)
    assert str(path) in caught.value.message


def test_the_note_is_what_was_begun(tmp_path):
    layout = CheckpointLayout(tmp_path, "logs")
    lineage = opened(layout)
    data = json.loads((layout.lineage(lineage.id) / "lineage.json").read_text())
    assert data["spark_version"] == "4.2.0"
    assert read_lineage(layout, lineage.id) == lineage
