from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake

from headgate.checkpoints.layout import CheckpointLayout, quarantine_table, table_path, transaction_id
from headgate.errors import RefusedError
from headgate.settings import Settings
from headgate.torture.damage import cut, remedy

LINEAGE = "1-abc"


@pytest.fixture
def place(tmp_path: Path) -> Any:
    """A query with batch 4 committed and batch 5 under way, and tables that have batch 4."""
    settings = Settings(home=tmp_path, env="torture")
    layout = CheckpointLayout(settings.checkpoints, "p")
    query = layout.query(LINEAGE, "records")
    (query / "offsets").mkdir(parents=True)
    (query / "commits").mkdir()
    layout.current.write_text(LINEAGE)
    for number in (4, 5):
        (query / "offsets" / str(number)).write_text(f"v1\n{{}}\nbatch {number}")
    (query / "commits" / "4").write_text("v1\n{}")
    output = SimpleNamespace(to=[SimpleNamespace(delta="sales")])
    contract = SimpleNamespace(outputs={"sales": output}, sources={"orders": None})
    frozen = SimpleNamespace(pipeline="p", contract=contract, record_outputs=["sales"])
    place = SimpleNamespace(settings=settings, frozen=frozen, query=query)
    commit(place, "sales", "sales", 4)
    commit(place, "_quarantine", "_quarantine.orders", 4)
    return place


def commit(place: Any, table: str, output: str, batch: int) -> None:
    path = table_path(place.settings.tables, "p", table)
    assert path == quarantine_table(place.settings.tables, "p") or table != "_quarantine"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = Transaction(transaction_id("p", "records", output, LINEAGE), batch)
    properties = CommitProperties(app_transactions=[done])
    write_deltalake(str(path), pa.table({"a": [1]}), mode="append", commit_properties=properties)


def test_the_offsets_of_the_batch_under_way_are_cut_and_removed(place: Any) -> None:
    whole = (place.query / "offsets" / "5").read_bytes()
    file = cut(place.query, 0.5)
    assert 0 < len(file.read_bytes()) < len(whole)
    remedy(place.settings, place.frozen, place.query, file)
    assert [path.name for path in (place.query / "offsets").iterdir()] == ["4"]


def test_without_a_batch_under_way_there_is_nothing_to_cut(place: Any) -> None:
    (place.query / "commits" / "5").write_text("v1\n{}")
    with pytest.raises(RefusedError):
        cut(place.query, 0.0)
    with pytest.raises(RefusedError, match="committed"):
        remedy(place.settings, place.frozen, place.query, place.query / "offsets" / "5")


@pytest.mark.parametrize(("table", "output"), [("sales", "sales"), ("_quarantine", "_quarantine.orders")])
def test_offsets_of_a_batch_that_a_table_holds_are_not_removed(place: Any, table: str, output: str) -> None:
    commit(place, table, output, 5)
    file = cut(place.query, 0.0)
    with pytest.raises(RefusedError, match=table):
        remedy(place.settings, place.frozen, place.query, file)
    assert file.exists()
