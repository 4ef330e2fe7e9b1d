"""Which batches are ended with the contract that began them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, Transaction, write_deltalake
from small_contract import small_contract

from headgate.checkpoints.layout import RECORDS, CheckpointLayout, quarantine_table, table_path
from headgate.checkpoints.lineage import note_contract
from headgate.checkpoints.sinks import sinks_of
from headgate.checkpoints.unfinished import unfinished_batches
from headgate.contract.frozen import FrozenContract
from headgate.errors import NotFoundError

JOB = {"cores": 1}
LINEAGE = "1-l"
OLD = small_contract("p", job=JOB, rules=[{"name": "no_threes", "expect": "id % 10 <> 3"}])
NEW = small_contract("p", job=JOB)


@dataclass
class Place:
    folder: Path

    @property
    def layout(self) -> CheckpointLayout:
        return CheckpointLayout(self.folder / "checkpoints", "p")

    def query(self, name: str, offsets: int, commits: int, contract: FrozenContract = OLD) -> None:
        """The newest files of its logs; -1 for none."""
        for log, batch in (("offsets", offsets), ("commits", commits)):
            folder = self.layout.query(LINEAGE, name) / log
            folder.mkdir(parents=True)
            if batch >= 0:
                (folder / str(batch)).write_text("v1")
        note_contract(self.layout, LINEAGE, name, contract.hash)

    def commit(self, table: str, batch: int, lineage: str = LINEAGE) -> None:
        (sink,) = [each for each in sinks_of(OLD) if each.table == table]
        quarantine = table == "_quarantine"
        path = quarantine_table(self.folder, "p") if quarantine else table_path(self.folder, "p", table)
        (name,) = sink.transactions("p", lineage)
        done = CommitProperties(app_transactions=[Transaction(name, batch)])
        write_deltalake(str(path), pa.table({"n": [1]}), mode="append", commit_properties=done)

    def found(self, frozen: FrozenContract = NEW) -> list[tuple[str, int, str]]:
        known = {each.hash: each for each in (OLD, NEW)}
        found = unfinished_batches(self.layout, LINEAGE, frozen, self.folder, known.__getitem__)
        return [(each.query, each.batch, each.contract.hash) for each in found]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("table", ["rows", "_quarantine"])
@pytest.mark.parametrize(("batch", "committed"), [(0, -1), (7, 6)])
def test_a_batch_that_a_table_of_the_query_has_is_one_of_them(place, table, batch, committed):
    place.query(RECORDS, batch, committed)
    place.query("counts", 4, 4)
    place.commit("rows", batch - 1)
    place.commit(table, batch)
    assert place.found() == [(RECORDS, batch, OLD.hash)]


def test_one_of_a_window_is_its_own(place):
    place.query(RECORDS, 7, 6)
    place.query("counts", 5, 4)
    place.commit("counts", 5)
    assert place.found() == [("counts", 5, OLD.hash)]


def test_what_is_committed_unwritten_of_another_lineage_or_of_the_same_contract_is_none(place):
    place.query(RECORDS, 7, 6)
    assert place.found() == [], "there are no tables"
    place.commit("rows", 6)
    place.commit("rows", 7, lineage="0-k")
    assert place.found() == [], "nothing was written of it"
    place.commit("rows", 7)
    assert place.found(OLD) == [], "the same contract"
    (place.layout.query(LINEAGE, RECORDS) / "commits" / "7").write_text("v1")
    assert place.found() == [], "it is committed"


def test_a_contract_that_is_not_stored_any_more_is_told(place):
    place.query(RECORDS, 7, 6)

    def gone(_hash: str) -> FrozenContract:
        raise NotFoundError("it is not stored")

    with pytest.raises(NotFoundError):
        unfinished_batches(place.layout, LINEAGE, NEW, place.folder, gone)
