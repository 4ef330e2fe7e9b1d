"""What audit claims, and what it says it cannot know: real tables and the files that Spark leaves."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from contract_examples import contract_of
from deltalake import CommitProperties, Transaction, write_deltalake

from headgate.checkpoints.books import Totals, write_page
from headgate.checkpoints.layout import CheckpointLayout, transaction_id
from headgate.checkpoints.lineage import begin_lineage
from headgate.contract.frozen import FrozenContract, ResolvedOutput, freeze
from headgate.quality import counted as module
from headgate.quality.audit import OutputAudit, _taken_out, audit
from headgate.replays.model import Replay, ReplayLayout, write_note
from headgate.settings import Settings
from headgate.topics.lake import carry_out_table
from headgate.topics.tables import compare_table, desired_tables

COLUMNS = {"minute": "timestamp", "level": "string", "lines": "long"}
SELECTED = "level, count(*) AS lines FROM a GROUP BY"
COUNTS = f"SELECT window.start AS minute, {SELECTED} window(ts, '1 minute'), level"
CUBE = f"SELECT ts AS minute, {SELECTED} CUBE (ts, level)"


def frozen_contract(sql: str) -> FrozenContract:
    fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in COLUMNS.items()]
    columns = [{"name": "ts", "type": "timestamp"}, {"name": "level", "type": "string"}]
    output = {"sql": sql, "mode": "update", "key": ["minute", "level"], "to": [{"delta": "counts"}]}
    resolved = ResolvedOutput(True, {"type": "struct", "fields": fields}, "minute", 60.0, "lines")
    return freeze(
        contract_of({"a": {"topic": "in", "columns": columns}}, {"counts": output}),
        topics={"a": "in"},
        replication=1,
        outputs={"counts": resolved},
        env="local",
        headgate_version="0",
    )


def committed(query: Path, offset: int, begun: dict[str, int] | None, batch_id: int = 0) -> None:
    """A checkpoint whose batch is committed, and where Spark noted that it began."""
    metadata = {"batchWatermarkMs": 0, "batchTimestampMs": 1, "conf": {}}
    files: dict[str, list[Any]] = {
        f"offsets/{batch_id}": ["v1", metadata, {"in": {"0": offset}}],
        f"commits/{batch_id}": ["v1", {"nextBatchWatermarkMs": 0}],
    }
    if begun is not None:
        files["sources/a/0"] = ["v1", {"in": begun}]
    for name, lines in files.items():
        (query / name).parent.mkdir(parents=True, exist_ok=True)
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (query / name).write_text("\n".join(texts))


def applied(tmp_path: Path, frozen: FrozenContract) -> tuple[Settings, CheckpointLayout]:
    """The pipeline's tables, empty, and where its checkpoints will be."""
    settings = Settings.model_validate({"home": tmp_path})
    for table in desired_tables(frozen):
        for action in compare_table(table, None)[0]:
            carry_out_table(settings.tables, action)
    return settings, CheckpointLayout(settings.checkpoints, frozen.pipeline)


def audited(
    tmp_path: Path,
    records: dict[str, int] | None,
    own: dict[str, int] | None,
    sql: str = COUNTS,
    swapped: str = "",
) -> OutputAudit:
    """20 records read and good, 15 of them counted, by the commit of a swap where one is named."""
    frozen = frozen_contract(sql)
    settings, layout = applied(tmp_path, frozen)
    lineage = begin_lineage(layout, contract_hash=frozen.hash, spark_version="4.2.0", at=time.time()).id
    write_page(layout.books(lineage), 0, Totals(read=20, good=20))
    committed(layout.query(lineage, "records"), 20, records)
    committed(layout.query(lineage, "counts"), 20, own)
    at = pa.array([datetime(2025, 10, 1, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    rows = pa.table({"minute": at, "level": ["INFO"], "lines": pa.array([15], pa.int64())})
    commit = CommitProperties(app_transactions=[Transaction(swapped, 1)] if swapped else None)
    write_deltalake(
        settings.tables / frozen.pipeline / "counts", rows, mode="append", commit_properties=commit
    )
    (found,) = audit(settings, frozen).outputs
    return found


def test_queries_that_began_together_are_compared_exactly(tmp_path):
    found = audited(tmp_path, {"0": 0}, {"0": 0})
    assert (found.counted, found.late, found.exact, found.reason) == (15, 5, True, "")


def ahead(
    tmp_path: Path, read: int, counts: list[int | None], ends: dict[int, int] | None = None
) -> OutputAudit:
    """The record query has read so far; the output's query has counted up to `counts[n]` in batch n, and None
    for a batch without rows, which is in no version of the table. `ends`: up to where that has read."""
    frozen = frozen_contract(COUNTS)
    settings, layout = applied(tmp_path, frozen)
    lineage = begin_lineage(layout, contract_hash=frozen.hash, spark_version="4.2.0", at=time.time()).id
    write_page(layout.books(lineage), 0, Totals(read=read, good=read))
    committed(layout.query(lineage, "records"), read, {"0": 0})
    ours = transaction_id(frozen.pipeline, "counts", "counts", lineage)
    at = pa.array([datetime(2025, 10, 1, tzinfo=UTC)], pa.timestamp("us", tz="UTC"))
    query = layout.query(lineage, "counts")
    for batch_id, count in enumerate(counts):
        committed(query, (ends or {}).get(batch_id, count or 0), {"0": 0}, batch_id)
        if count is None:
            continue
        rows = pa.table({"minute": at, "level": ["INFO"], "lines": pa.array([count], pa.int64())})
        commit = CommitProperties(app_transactions=[Transaction(ours, batch_id)])
        table = settings.tables / frozen.pipeline / "counts"
        write_deltalake(table, rows, mode="overwrite", commit_properties=commit)
    (found,) = audit(settings, frozen).outputs
    return found


def test_an_output_that_is_ahead_of_the_books_is_read_as_it_was_before(tmp_path):
    found = ahead(tmp_path, 20, [8, 17, 23, 31])
    assert (found.counted, found.pending, found.late, found.exact) == (17, 3, 0, True)


def test_a_batch_without_rows_is_no_reason_to_go_back(tmp_path):
    found = ahead(tmp_path, 20, [8, 17, None], {2: 25})
    assert (found.counted, found.pending, found.late, found.exact) == (17, 3, 0, True)
    found = ahead(tmp_path / "behind", 20, [8, 15, None], {2: 18})
    assert (found.counted, found.pending, found.late, found.exact) == (15, 2, 3, True)


@pytest.mark.parametrize("gone", ["offsets", "log", "file"])
def test_what_is_not_kept_any_more_is_no_damage(tmp_path, gone, monkeypatch):
    whole = module._at_version

    def purged(table: Any, version: int, ours: str, query: Path) -> Any:
        if gone == "offsets":
            (query / "offsets" / "1").unlink(missing_ok=True)
        if gone == "log":
            for file in (Path(urlsplit(table.table_uri).path) / "_delta_log").glob("*2.json"):
                file.unlink()
        found = whole(table, version, ours, query)
        if gone == "file" and table.version() == 2:
            for file in Path(urlsplit(table.table_uri).path).glob("*.parquet"):
                file.unlink()
        return found

    monkeypatch.setattr(module, "_at_version", purged)
    found = ahead(tmp_path, 20, [8, 17, 23])
    assert (found.late, found.exact) == (None, False)
    assert "audit again" in found.reason


def test_an_output_that_was_never_behind_the_books_says_what_to_do(tmp_path):
    found = ahead(tmp_path, 20, [30, 40])
    assert (found.late, found.exact) == (None, False)
    assert "headgate status example" in found.reason


def test_an_output_that_began_later_than_the_books_is_not_compared(tmp_path):
    found = audited(tmp_path, {"0": 0}, {"0": 5})
    assert (found.late, found.exact) == (None, False)
    assert "began at offset 5 of partition 0" in found.reason


def test_without_a_note_of_where_they_began_nothing_is_claimed(tmp_path):
    found = audited(tmp_path, {"0": 0}, None)
    assert (found.late, found.exact) == (None, False)
    assert "not known" in found.reason


@pytest.mark.parametrize("sql", [CUBE, CUBE.replace("CUBE", "ROLLUP")])
def test_a_record_that_is_in_several_groups_is_not_compared(tmp_path, sql):
    found = audited(tmp_path, {"0": 0}, {"0": 0}, sql)
    assert (found.exact, "more than once" in found.reason) == (False, True)


def test_a_table_that_a_replay_was_swapped_into_is_not_compared_with_the_books(tmp_path):
    assert audited(tmp_path / "as it was", {"0": 0}, {"0": 0}).exact
    home = tmp_path / "swapped"
    own = ReplayLayout(home / "var", "example", "r1")
    replay = Replay("r1", "example", "ab", {"in": {0: 0}}, {"in": {0: 9}}, {"in": "id"}, "", "cli:a", 1.0)
    write_note(own.manifest, replay.to_json())
    write_note(own.counts, {"counts": {"of_lineage": 0, "lineage": "1-a"}})
    name = "headgate/example/_replay/counts/r1"
    found = audited(home, {"0": 0}, {"0": 0}, swapped=name)
    assert (found.late, found.exact) == (None, False)
    assert "replay r1 was swapped into its table" in found.reason


def test_what_a_swap_took_out_of_the_quarantine_is_still_in_the_books():
    swaps = [{"of_lineage": 3, "lineage": "1-a"}, {"of_lineage": 5, "lineage": "2-b"}, {"replay": "r3"}]
    assert _taken_out(swaps, "1-a") == 3
    assert _taken_out([], "1-a") == 0
