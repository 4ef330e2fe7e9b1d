"""A swap on real tables: exact, whole or not at all, once, and done to its end after a kill."""

from __future__ import annotations

import json
import shutil

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from replay_world import LAST, ReplayWorld, make_world

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import begin_lineage
from headgate.checkpoints.owner import FencedError
from headgate.replays import swapping
from headgate.replays.model import read_note, swapped_into
from headgate.replays.select import records_of
from headgate.replays.swap import plan_swap
from headgate.replays.swapping import carry_out, replace_rows

TABLES = ("copy", "tens", "_quarantine")


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


def swap(world: ReplayWorld, *tables: str, generation: int = 5, check=lambda: None) -> str:
    carry_out(world.settings, "r1", tables, generation=generation, at=9.0, check=check)
    note = read_note(world.own.swap)
    assert note is not None
    return str(note["state"])


def content(world: ReplayWorld, table: str) -> list[str]:
    rows = [{name: value for name, value in row.items() if name != "lineage"} for row in world.rows(table)]
    return sorted(map(repr, rows))


def spoil(world: ReplayWorld) -> dict[str, list[str]]:
    """Wrong, missing and doubled rows inside the range; what the tables were before."""
    before = {table: content(world, table) for table in TABLES}
    copy = DeltaTable(str(world.live("copy")))
    copy.delete("place >= 30 AND place < 35")
    copy.update(updates={"amount": "-1"}, predicate="place = 50")
    doubled = copy.to_pyarrow_dataset().to_table(filter=pc.field("place") == 60)
    write_deltalake(str(world.live("copy")), doubled, mode="append")
    tens = DeltaTable(str(world.live("tens")))
    tens.update(updates={"n": "99"}, predicate="n = 9 AND mean > 30 AND mean < 40")
    DeltaTable(str(world.live("_quarantine"))).delete("offset = 49")
    assert all(content(world, table) != before[table] for table in TABLES)
    return before


def test_what_was_spoiled_inside_the_range_is_as_it_should_be_and_the_rest_untouched(world):
    before = spoil(world)
    assert swap(world) == "done"
    assert {table: content(world, table) for table in TABLES} == before


def test_the_plan_counts_what_would_be_taken_out_and_put_in_and_changes_nothing(world):
    spoil(world)
    versions = [DeltaTable(str(world.live(table))).version() for table in TABLES]
    plan = plan_swap(world.settings, "r1")
    assert plan.refusals == ()
    counts = {each.table: (each.taken_out, each.put_in, each.kept) for each in plan.tables}
    assert counts == {"copy": (50, 54, 0), "tens": (6, 6, 0), "_quarantine": (5, 6, 0)}
    assert next(each.of_lineage for each in plan.tables if each.table == "_quarantine") == 5
    assert [DeltaTable(str(world.live(table))).version() for table in TABLES] == versions
    json.dumps(plan.to_json())


def test_windows_that_are_not_wholly_inside_stay_as_they_are(world):
    spoil(world)
    world.prove(low=40, high=60)
    plan = plan_swap(world.settings, "r1")
    assert next((t.taken_out, t.put_in, t.kept) for t in plan.tables if t.table == "tens") == (3, 3, 3)
    assert swap(world) == "done"
    assert any(row["n"] == 99 for row in world.rows("tens"))


def test_a_swap_is_made_once_however_often_it_is_ordered(world):
    assert swap(world) == "done"
    versions = [DeltaTable(str(world.live(table))).version() for table in TABLES]
    assert swap(world) == "done"
    assert swap(world, generation=6) == "done"
    world.own.swap.unlink()
    assert swap(world, generation=7) == "done"
    assert [DeltaTable(str(world.live(table))).version() for table in TABLES] == versions


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_driver_killed_between_two_tables_leaves_the_rest_to_the_next_one(world, monkeypatch, after):
    before, done = spoil(world), []

    class Killed(BaseException):
        pass

    def commit(*arguments):
        if len(done) == after:
            raise Killed
        done.append(replace_rows(*arguments))

    with monkeypatch.context() as patched:
        patched.setattr(swapping, "replace_rows", commit)
        with pytest.raises(Killed):
            carry_out(world.settings, "r1", (), generation=5, at=9.0, check=lambda: None)
    assert read_note(world.own.swap) is None
    assert swap(world) == "done"
    assert {table: content(world, table) for table in TABLES} == before
    assert [DeltaTable(str(world.live(table))).history(1)[0]["operation"] for table in TABLES] == [
        "WRITE"
    ] * 3
    # The counts are those from before the first commit, whichever driver has written the note.
    counts = read_note(world.own.counts) or {}
    assert [counts[table]["taken_out"] for table in TABLES] == [50, 6, 5]
    changed = swapped_into(world.settings.state, "shop")
    assert {table: [each["replay"] for each in found] for table, found in changed.items()} == {
        table: ["r1"] for table in TABLES
    }


def test_a_driver_that_has_been_replaced_changes_no_table(world):
    before = spoil(world)
    spoiled = {table: content(world, table) for table in TABLES}

    def fenced() -> None:
        raise FencedError("epoch 9 has taken over")

    with pytest.raises(FencedError):
        swap(world, check=fenced)
    assert {table: content(world, table) for table in TABLES} == spoiled != before


def test_a_commit_that_comes_in_between_makes_the_swap_conflict(world, monkeypatch):
    real = swapping._rows

    def in_between(side, chosen, columns):
        rows = DeltaTable(str(world.live("copy"))).to_pyarrow_table().slice(0, 1)
        write_deltalake(str(world.live("copy")), rows, mode="append")
        return real(side, chosen, columns)

    monkeypatch.setattr(swapping, "_rows", in_between)
    chosen = records_of({"_partition": "part", "_offset": "place"}, world.replay.begin, world.replay.end)
    with pytest.raises(CommitFailedError):
        replace_rows(world.live("copy"), world.side("copy"), chosen, "name")


def refusals(world: ReplayWorld) -> str:
    return "; ".join(plan_swap(world.settings, "r1").refusals)


def test_a_live_stream_that_has_not_read_the_whole_range_would_write_it_twice(world):
    world.commit_live(LAST - 1, "records")
    assert "has come to offset 79 of topic orders, partition 0; the range ends at 80" in refusals(world)
    world.commit_live(LAST, "records")
    assert refusals(world) == ""


def test_without_proof_for_every_table_none_is_changed_and_the_stream_goes_on(world):
    spoil(world)
    spoiled = {table: content(world, table) for table in TABLES}
    world.prove(free=(), why="the live stream has closed no window yet")
    assert swap(world) == "refused"
    assert {table: content(world, table) for table in TABLES} == spoiled
    assert "table tens: the live stream has closed no window yet" in refusals(world)
    # Asked for in the same generation, by a driver after a crash, it is not tried again; later it is.
    world.prove()
    assert swap(world) == "refused"
    assert swap(world, generation=6) == "done"


def test_one_table_can_be_swapped_by_its_name(world):
    before = spoil(world)
    world.own.evidence.unlink()
    assert "not looked up" in refusals(world)
    assert swap(world, "copy", "_quarantine") == "done"
    assert content(world, "copy") == before["copy"]
    assert content(world, "tens") != before["tens"]
    assert "the replay has no table nothing" in plan_swap(world.settings, "r1", ["nothing"]).refusals


def test_a_new_lineage_of_the_live_stream_ends_what_was_proved(world):
    layout = CheckpointLayout(world.settings.checkpoints, "shop")
    world.lineage = begin_lineage(layout, contract_hash=world.frozen.hash, spark_version="4", at=2.0).id
    world.commit_live(100)
    assert "has begun a new lineage since" in refusals(world)


def test_another_schema_is_refused(world):
    from deltalake import Field

    DeltaTable(str(world.live("copy"))).alter.add_columns([Field("note", "string")])
    assert "the columns note are not the same in both" in refusals(world)


def test_a_damaged_replay_does_not_hurt_the_stream(world):
    for path in world.side("copy").glob("*.parquet"):
        path.write_bytes(b"nothing")
    versions = {table: DeltaTable(str(world.live(table))).version() for table in TABLES}
    carry_out(world.settings, "r1", (), generation=5, at=9.0, check=lambda: None)
    assert (read_note(world.own.swap) or {})["state"] == "failed"
    assert {table: DeltaTable(str(world.live(table))).version() for table in TABLES} == versions
    shutil.rmtree(world.own.folder)
    carry_out(world.settings, "r1", (), generation=6, at=9.0, check=lambda: None)


def test_what_redis_still_serves_is_not_swapped(world, monkeypatch):
    from replay_world import micros

    from headgate.replays import swap as module

    monkeypatch.setattr(
        module, "served_from", lambda *_: lambda output: micros(50) if output == "tens" else None
    )
    monkeypatch.setattr(swapping, "served_from", module.served_from)
    plan = plan_swap(world.settings, "r1")
    assert next((t.taken_out, t.put_in, t.kept) for t in plan.tables if t.table == "tens") == (3, 3, 3)
    monkeypatch.setattr(module, "served_from", lambda *_: lambda output: micros(0) if output else None)
    assert "Redis still serves rows of the range" in refusals(world)
