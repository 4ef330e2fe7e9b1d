"""Snapshots and both ways back, over checkpoints and tables on disk; Spark itself is in tests/e2e."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from spark_checkpoint import batch, begin_query, commit, rows_in, write_batch

from headgate.checkpoints import copying, sinks
from headgate.checkpoints.copying import PurgedError, copy_query
from headgate.checkpoints.layout import CheckpointLayout, transaction_id
from headgate.checkpoints.lineage import begin_lineage
from headgate.checkpoints.restore import (
    NEW_LINEAGE,
    SAME_BATCHES,
    Following,
    Restore,
    choose,
    finish_swap,
    following,
    redo_folder,
)
from headgate.checkpoints.sinks import Sink
from headgate.checkpoints.snapshots import (
    Snapshot,
    find_snapshots,
    prune,
    read_snapshot,
    superfluous,
    take_snapshot,
    verify,
)
from headgate.errors import HeadgateError, NotFoundError, RefusedError, TablesUnavailable
from headgate.tables.answers import StoreDenied
from spark.redo import redo, waiting

COPY = Sink("copy", "records", ("copy",), keyed=False)
SUMS = Sink("sums", "sums", ("sums",), keyed=True)
SINKS = (COPY, SUMS)
QUERIES = ("records", "sums")


class Killed(BaseException):
    """What a kill leaves undone is undone: nothing may catch it."""


class World:
    """A pipeline with two queries, each of which has run some batches."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.snapshots, self.tables = root / "snapshots", root / "tables"
        self.layout = CheckpointLayout(root / "checkpoints", "shop")
        self.frozen: Any = SimpleNamespace(hash="abc", stateful_outputs=["sums"])
        monkeypatch.setattr("headgate.checkpoints.snapshots.sinks_of", lambda _: SINKS)
        self.lineage = begin_lineage(self.layout, contract_hash="abc", spark_version="4", at=0.0)
        self.last = -1
        for query in QUERIES:
            begin_query(self.query(query))
        self.layout.books(self.lineage.id).mkdir()

    def query(self, name: str) -> Path:
        current = self.layout.current_lineage()
        assert current is not None
        return self.layout.query(current, name)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.last += 1
            for name in QUERIES:
                batch(self.query(name), self.last, 10 * (self.last + 1))
                self.write(name, self.last)
                commit(self.query(name), self.last)

    def write(self, query: str, number: int) -> None:
        current = str(self.layout.current_lineage())
        table = {"records": "copy", "sums": "sums"}[query]
        write_batch(self.tables / "shop" / table, transaction_id("shop", query, table, current), number)
        if query == "records":
            (self.layout.books(current) / f"{number}.json").write_text(json.dumps({"batch_id": number}))

    def take(self, id: str = "one", at: float = 1.0) -> Snapshot:
        return take_snapshot(
            self.snapshots,
            self.layout,
            self.frozen,
            self.tables,
            id=id,
            topics={"t": "id"},
            reason="request",
            at=at,
        )

    def restore(self, snapshot: Snapshot, generation: int = 7) -> Restore:
        note = {"kind": "snapshot", "snapshot": snapshot.id}
        return Restore(self.layout, snapshot, self.snapshots, self.tables, SINKS, generation, note, 2.0)

    def following(self, snapshot: Snapshot) -> dict[str, Following]:
        return following(self.layout, snapshot, SINKS, self.tables)


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def names(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_a_snapshot_holds_each_query_up_to_its_newest_commit_and_nothing_of_the_batch_under_way(world):
    world.run(3)
    batch(world.query("records"), 3, 40)
    world.write("records", 3)  # it is in the table, and not committed by Spark
    (world.query("records") / "state" / "0" / "0" / "4.delta").write_text("state 4")
    (world.query("records") / "state" / "0" / "0" / "5.delta").write_text("of the batch under way")
    taken = world.take()
    copy = world.snapshots / "shop" / "one" / "queries" / "records"
    assert taken.queries == {"records": 2, "sums": 2}
    assert names(copy / "offsets") == names(copy / "commits") == [0, 1, 2]
    assert sorted(path.name for path in (copy / "state" / "0" / "0").glob("*.delta")) == [
        "1.delta",
        "2.delta",
        "3.delta",
    ]
    assert taken.offsets["records"] == {"t": {0: 30}}
    assert (taken.lineage, taken.contract_hash, taken.topics) == (world.lineage.id, "abc", {"t": "id"})
    version = taken.tables["copy"]
    assert rows_in(world.tables / "shop" / "copy") == [0, 1, 2, 3]
    noted = DeltaTable(str(world.tables / "shop" / "copy"), version=version)
    assert sorted(noted.to_pyarrow_table()["batch"].to_pylist()) == [0, 1, 2]
    books = world.snapshots / "shop" / "one" / "books"
    assert sorted(path.name for path in books.iterdir()) == ["0.json", "1.json", "2.json"]
    assert not verify(world.snapshots, taken)


def test_a_query_that_has_committed_nothing_keeps_where_it_began(world):
    taken = world.take()
    assert taken.queries == {"records": -1, "sums": -1}
    assert "queries/records/sources/orders/0" in taken.files
    assert taken.offsets == {}


def test_the_copy_does_not_share_the_damage_of_its_source(world):
    world.run(2)
    taken = world.take()
    (world.query("records") / "offsets" / "1").write_text("")
    assert not verify(world.snapshots, taken)


def test_damage_of_a_snapshot_is_found(world):
    world.run(1)
    taken = world.take()
    folder = world.snapshots / "shop" / "one"
    (folder / "queries" / "records" / "offsets" / "0").write_text("v1\n")
    (folder / "queries" / "sums" / "metadata").unlink()
    found = verify(world.snapshots, taken)
    assert len(found) == 2
    (folder / "snapshot.json").write_text("{")
    with pytest.raises(RefusedError, match="damaged"):
        read_snapshot(world.snapshots, "shop", "one")
    assert find_snapshots(world.snapshots, "shop") == []


def test_taking_a_snapshot_that_is_there_changes_nothing(world):
    world.run(1)
    first = world.take()
    world.run(1)
    assert world.take() == first


def test_without_a_checkpoint_there_is_nothing_to_take(world):
    world.layout.current.unlink()
    with pytest.raises(RefusedError, match="no checkpoint"):
        world.take()
    with pytest.raises(NotFoundError):
        read_snapshot(world.snapshots, "shop", "one")


def test_a_file_purged_meanwhile_makes_the_copy_be_made_again(world, monkeypatch):
    world.run(3)
    real, calls = copying.copy_file, []

    def purging(source: Path, target: Path) -> Any:
        calls.append(source)
        if len(calls) == 4:  # Spark cleans up and goes on while the first copy is made
            world.run(1)
            for number in range(3):
                (world.query("records") / "offsets" / str(number)).unlink()
        return real(source, target)

    monkeypatch.setattr(copying, "copy_file", purging)
    taken = world.take()
    assert taken.queries["records"] == 3
    assert not verify(world.snapshots, taken)


def test_of_a_damaged_checkpoint_no_snapshot_is_taken_and_nothing_is_left_of_the_try(world):
    world.run(3)
    (world.query("sums") / "state" / "0" / "0" / "3.delta").write_bytes(b"half")
    with pytest.raises(
        RefusedError, match=r"no snapshot of shop was taken: query sums is damaged \(.*3\.delta"
    ):
        world.take()
    assert not list(world.snapshots.glob("shop/*")) and not list(world.snapshots.glob("shop/.*"))


@pytest.mark.parametrize("error", [TablesUnavailable("503 Slow Down"), StoreDenied("403")])
def test_a_store_that_fails_after_the_copy_leaves_nothing_of_the_try(world, monkeypatch, error):
    world.run(3)

    def away(*_: object) -> bool:
        assert list(world.snapshots.glob("shop/.one.new/queries/*")), "the copy is made before"
        raise error

    monkeypatch.setattr(sinks, "is_table", away)
    with pytest.raises(type(error)):
        world.take()
    assert list((world.snapshots / "shop").iterdir()) == []


def test_a_copy_whose_own_batch_was_purged_is_refused(tmp_path):
    query = tmp_path / "q"
    begin_query(query)
    batch(query, 0, 1)
    commit(query, 0)
    (query / "offsets" / "0").unlink()
    with pytest.raises(PurgedError):
        copy_query(query, tmp_path / "copy")


def test_a_checkpoint_that_never_holds_still_is_given_up_with_what_to_do(world, monkeypatch):
    world.run(1)

    def purged(*_: object) -> Any:
        raise PurgedError("offsets/0 was removed")

    monkeypatch.setattr("headgate.checkpoints.snapshots.copy_query", purged)
    with pytest.raises(HeadgateError, match="faster than its checkpoint can be copied"):
        world.take()
    assert find_snapshots(world.snapshots, "shop") == []


def test_old_ones_go_and_the_protected_one_stays(world):
    world.run(1)
    for number in range(5):
        world.take(str(number), at=float(number))
    assert sorted(prune(world.snapshots, "shop", 2, protected={"0"})) == ["1", "2"]
    assert [each.id for each in find_snapshots(world.snapshots, "shop")] == ["4", "3", "0"]


def test_the_draft_of_a_process_that_died_long_ago_goes_and_one_at_work_stays(world):
    world.run(1)
    world.take()
    old, young = (world.snapshots / "shop" / name for name in (".dead.new", ".busy.new"))
    for draft in (old, young):
        draft.mkdir()
    os.utime(old, (1.0, 1.0))
    prune(world.snapshots, "shop", 3)
    assert (old.exists(), young.exists()) == (False, True)


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=8), st.integers(1, 5), st.sets(st.integers(0, 7)))
def test_the_last_good_one_is_never_removed(goodness, keep, protected):
    all_of_them: Any = [SimpleNamespace(id=str(n), good=good) for n, good in enumerate(goodness)]
    shielded = {str(n) for n in protected}
    gone = superfluous(all_of_them, keep, protected=shielded, good=lambda each: each.good)  # type: ignore[attr-defined]
    left = [each for each in all_of_them if each.id not in gone]
    assert any(each.good for each in left) == any(goodness)
    assert not shielded & set(gone)
    assert len(left) <= keep + 1 + len(shielded)


def test_a_whole_log_lets_the_same_batches_run_again(world):
    world.run(2)
    taken = world.take()
    world.run(3)
    found = world.following(taken)
    assert found == {name: Following(1, 4, 4) for name in QUERIES}
    assert choose(taken, world.lineage.id, found) == (SAME_BATCHES, "")


def test_a_gap_a_torn_tail_and_another_lineage_need_a_new_one(world):
    world.run(2)
    taken = world.take()
    world.run(3)
    offsets = world.query("records") / "offsets"
    whole = (offsets / "4").read_text()
    (offsets / "4").write_text("v1")
    assert choose(taken, world.lineage.id, world.following(taken))[0] == NEW_LINEAGE
    (offsets / "4").unlink()
    way, why = choose(taken, world.lineage.id, world.following(taken))
    assert way == NEW_LINEAGE
    assert "a table holds batch 4, its offsets end at 3" in why
    (offsets / "4").write_text(whole)
    (offsets / "3").unlink()
    assert choose(taken, world.lineage.id, world.following(taken))[0] == NEW_LINEAGE
    assert choose(taken, "2-other", {})[0] == NEW_LINEAGE
    assert choose(taken, None, {})[0] == NEW_LINEAGE


def test_going_back_with_the_same_batches_keeps_their_offsets_aside_for_the_driver(world):
    world.run(2)
    taken = world.take()
    world.run(3)
    lineage = world.restore(taken).run(SAME_BATCHES)
    assert (lineage.id, lineage.generation) == (world.lineage.id, 7)
    query = world.query("records")
    assert names(query / "offsets") == names(query / "commits") == [0, 1]
    folder = redo_folder(world.layout.lineage(lineage.id), "records")
    assert waiting(folder) == [2, 3, 4]
    assert (
        world.layout.folder / f"{lineage.id}.before-7" / "queries" / "records" / "commits" / "4"
    ).is_file()
    assert world.restore(taken).run(SAME_BATCHES) == lineage
    assert rows_in(world.tables / "shop" / "copy") == [0, 1, 2, 3, 4]


def test_batches_run_again_one_by_one_with_their_own_offsets_and_go_on_after_a_kill(world):
    world.run(2)
    taken = world.take()
    world.run(3)
    world.restore(taken).run(SAME_BATCHES)
    query = world.query("records")
    folder = redo_folder(world.layout.lineage(world.lineage.id), "records")
    seen: list[tuple[int, str]] = []

    def spark() -> None:
        number = names(query / "offsets")[-1]
        assert number == names(query / "commits")[-1] + 1
        seen.append((number, (query / "offsets" / str(number)).read_text().splitlines()[-1]))
        if len(seen) == 2:
            raise Killed  # killed in the middle of batch 3
        commit(query, number)

    with pytest.raises(Killed):
        redo(folder, query, spark)
    assert waiting(folder) == [3, 4]
    redo(folder, query, spark)
    assert waiting(folder) == []
    ends = {2: '{"t":{"0":30}}', 3: '{"t":{"0":40}}', 4: '{"t":{"0":50}}'}
    assert seen == [(number, ends[number]) for number in (2, 3, 3, 4)]


def test_a_batch_that_spark_did_not_commit_stops_the_restore(world):
    world.run(1)
    taken = world.take()
    world.run(1)
    world.restore(taken).run(SAME_BATCHES)
    folder = redo_folder(world.layout.lineage(world.lineage.id), "records")
    with pytest.raises(HeadgateError, match="was not committed"):
        redo(folder, world.query("records"), lambda: None)
    assert waiting(folder) == [1]


def test_a_new_lineage_has_the_snapshots_files_and_puts_back_only_tables_that_grow(world):
    world.run(2)
    taken = world.take()
    world.run(3)
    (world.query("records") / "offsets" / "2").unlink()
    lineage = world.restore(taken).run(NEW_LINEAGE)
    assert lineage.id != world.lineage.id
    assert world.layout.current_lineage() == lineage.id
    assert names(world.query("records") / "commits") == [0, 1]
    assert rows_in(world.tables / "shop" / "copy") == [0, 1]
    assert rows_in(world.tables / "shop" / "sums") == [0, 1, 2, 3, 4]
    assert (world.layout.lineage(world.lineage.id) / "queries").is_dir()

    # Done again it changes nothing, also when the lineage has gone on meanwhile.
    world.last = 1
    world.run(1)
    assert world.restore(taken).run(NEW_LINEAGE) == lineage
    assert rows_in(world.tables / "shop" / "copy") == [0, 1, 2]


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("way", [SAME_BATCHES, NEW_LINEAGE])
def test_a_restore_killed_after_any_step_is_finished_by_the_next_driver(world, monkeypatch, way, steps):
    world.run(2)
    taken = world.take()
    world.run(3)
    real_rename, real_restore, left = Path.rename, DeltaTable.restore, [steps]

    def counted(real: Any) -> Any:
        def act(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*arguments, **options)

        return act

    with monkeypatch.context() as killing:
        killing.setattr(Path, "rename", counted(real_rename))
        killing.setattr(Path, "replace", counted(Path.replace))
        killing.setattr(DeltaTable, "restore", counted(real_restore))
        with contextlib.suppress(Killed):
            world.restore(taken).run(way)
    finish_swap(world.layout)
    world.restore(taken).run(way)
    lineage = str(world.layout.current_lineage())
    assert (lineage == world.lineage.id) == (way == SAME_BATCHES)
    assert names(world.query("records") / "commits") == [0, 1]
    redone = waiting(redo_folder(world.layout.lineage(lineage), "records"))
    assert redone == ([2, 3, 4] if way == SAME_BATCHES else [])
    assert rows_in(world.tables / "shop" / "copy") == ([0, 1, 2, 3, 4] if way == SAME_BATCHES else [0, 1])
    aside = world.layout.folder / f"{world.lineage.id}.before-7"
    assert aside.is_dir() == (way == SAME_BATCHES)


def test_the_announced_way_is_taken_or_the_restore_is_refused(world):
    world.run(1)
    taken = world.take()
    world.run(2)
    (world.query("sums") / "offsets" / "1").unlink()
    before = sorted(path.name for path in world.layout.folder.iterdir())
    with pytest.raises(RefusedError, match="cannot run the batches after the snapshot again"):
        world.restore(taken).run(SAME_BATCHES)
    assert sorted(path.name for path in world.layout.folder.iterdir()) == before


def test_a_way_back_that_nobody_announced_never_trusts_batches_after_the_snapshot(world):
    world.run(1)
    taken = world.take()
    unchanged = world.restore(taken).run("")
    assert unchanged.id == world.lineage.id
    world.run(1)
    assert world.restore(taken, generation=8).run("").id != world.lineage.id


def test_a_damaged_snapshot_is_not_restored(world):
    world.run(1)
    taken = world.take()
    (world.snapshots / "shop" / "one" / "queries" / "sums" / "metadata").write_text("x")
    with pytest.raises(RefusedError, match="is damaged"):
        world.restore(taken).run(NEW_LINEAGE)


def test_a_checkpoint_that_is_wholly_gone_comes_back_from_its_snapshot(world):
    world.run(2)
    taken = world.take()
    world.run(1)
    shutil.rmtree(world.layout.folder)
    world.layout.folder.mkdir()
    lineage = world.restore(taken).run(NEW_LINEAGE)
    assert world.layout.current_lineage() == lineage.id
    assert rows_in(world.tables / "shop" / "copy") == [0, 1]
