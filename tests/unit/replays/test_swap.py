"""A swap on real tables: exact, whole or not at all, once, and done to its end after a kill."""

from __future__ import annotations

import json
import shutil

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from replay_world import COPY_SQL, LAST, ReplayWorld, contract, make_world, micros

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import begin_lineage, read_lineage
from headgate.checkpoints.owner import FencedError
from headgate.checkpoints.ran import note_ran
from headgate.contract.frozen import ContractStore
from headgate.replays import swapping
from headgate.replays.model import read_note, write_note
from headgate.replays.select import records_of
from headgate.replays.swap import plan_swap
from headgate.replays.swapping import Swapping, replace_rows
from headgate.replays.traces import swapped_into

TABLES = ("copy", "tens", "_quarantine")


@pytest.fixture(autouse=True)
def topics(monkeypatch):
    """What the broker says is different about them."""
    changed: list[str] = []
    monkeypatch.setattr(swapping, "changed_topics", lambda *_: changed)
    return changed


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


def driver(world: ReplayWorld, generation: int = 5, check=lambda: None) -> Swapping:
    return Swapping(world.settings, "shop", generation, 9.0, check)


def noted(world: ReplayWorld) -> dict[str, object]:
    return read_note(world.own.swap) or {}


def swap(world: ReplayWorld, *tables: str, generation: int = 5, check=lambda: None) -> str:
    driver(world, generation, check).carry_out("r1", tables)
    return str(noted(world)["state"])


def content(world: ReplayWorld, table: str) -> list[str]:
    rows = [{name: value for name, value in row.items() if name != "lineage"} for row in world.rows(table)]
    return sorted(map(repr, rows))


def spoil(world: ReplayWorld, *, quarantine: bool = True) -> dict[str, list[str]]:
    """Wrong, missing and doubled rows inside the range; what the tables were before."""
    before = {table: content(world, table) for table in TABLES}
    copy = DeltaTable(str(world.live("copy")))
    copy.delete("place >= 30 AND place < 35")
    copy.update(updates={"amount": "-1"}, predicate="place = 50")
    doubled = copy.to_pyarrow_dataset().to_table(filter=pc.field("place") == 60)
    write_deltalake(str(world.live("copy")), doubled, mode="append")
    tens = DeltaTable(str(world.live("tens")))
    tens.update(updates={"n": "99"}, predicate="n = 9 AND mean > 30 AND mean < 40")
    if quarantine:
        DeltaTable(str(world.live("_quarantine"))).delete("offset = 49")
    assert all((content(world, t) != before[t]) == (quarantine or t != "_quarantine") for t in TABLES)
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
            swap(world)
    assert noted(world)["state"] == "begun"
    # What is half done is counted where it is, whatever the note says.
    assert len(swapped_into(world.settings, "shop")) == after
    assert swap(world) == "done"
    assert {table: content(world, table) for table in TABLES} == before
    assert [DeltaTable(str(world.live(table))).history(1)[0]["operation"] for table in TABLES] == [
        "WRITE"
    ] * 3
    # The counts are those from before the first commit, whichever driver has written the note.
    counts = read_note(world.own.counts) or {}
    assert [counts[table]["taken_out"] for table in TABLES] == [50, 6, 5]
    changed = swapped_into(world.settings, "shop")
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
    before = spoil(world, quarantine=False)
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
    assert swap(world) == "failed"
    assert {table: DeltaTable(str(world.live(table))).version() for table in TABLES} == versions
    shutil.rmtree(world.own.folder)
    assert swap(world, generation=6) == "failed"
    assert "there is no replay 'r1'" in str(noted(world)["refusals"])


@pytest.mark.parametrize("text", ["{}", "[]", '{"lineage": 1}'])
def test_whatever_a_swap_fails_of_is_noted_and_the_stream_goes_on(world, text):
    world.own.evidence.write_text(text)
    assert swap(world) == "failed"
    assert "evidence.json cannot be read" in str(noted(world)["refusals"])


def test_a_swap_whose_drivers_die_of_it_is_given_up(world, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    monkeypatch.setattr(swapping, "prepare_swap", die)
    for _ in range(2):
        with pytest.raises(Killed):
            swap(world)
    assert swap(world) == "failed"
    assert "2 drivers died" in str(noted(world)["refusals"])


def test_what_redis_still_serves_is_not_swapped(world, monkeypatch):
    from headgate.replays import swap as module

    monkeypatch.setattr(
        module, "_served_from", lambda *_: lambda output: micros(50) if output == "tens" else None
    )
    plan = plan_swap(world.settings, "r1")
    assert next((t.taken_out, t.put_in, t.kept) for t in plan.tables if t.table == "tens") == (3, 3, 3)
    monkeypatch.setattr(module, "_served_from", lambda *_: lambda output: micros(0) if output else None)
    assert "Redis still serves rows of the range" in refusals(world)


# Several sources


def test_offsets_mean_records_of_the_one_topic_that_a_table_is_made_from(tmp_path):
    world = make_world(tmp_path, contract(beside="others"), beside=(0, 20))
    before = spoil(world)
    copy = content(world, "copy")
    assert swap(world) == "done"
    # Of the records 0 to 19 the replay has only those of the other topic: these rows are not of them.
    assert content(world, "copy") == before["copy"] != copy
    assert {row["place"] for row in world.rows("copy")} == {n for n in range(100) if n % 10 != 9}


def test_a_range_without_a_record_of_a_tables_topic_changes_nothing_in_it(tmp_path):
    made = contract(beside="others", copy=COPY_SQL.replace("orders", "others"))
    world = make_world(tmp_path, made)
    before = content(world, "copy")
    world.replay.end["others"] = {0: 0}
    world.replay.begin["others"] = {0: 0}
    write_note(world.own.manifest, world.replay.to_json())
    assert swap(world) == "done"
    assert content(world, "copy") == before


# A contract that judges otherwise


@pytest.mark.parametrize("where", ["live", "side"])
def test_what_is_judged_otherwise_goes_with_the_whole_of_its_window(world, where):
    world.misjudge(**{where: (45, 61)})
    assert plan_swap(world.settings, "r1").judged == 2
    assert swap(world) == "done"
    expected = make_world(world.settings.home / "expected")
    if where == "side":
        expected.misjudge(live=(45, 61))
    assert {table: content(world, table) for table in TABLES} == {
        table: content(expected, table) for table in TABLES
    }


@pytest.mark.parametrize("where", ["live", "side"])
def test_a_record_that_is_judged_otherwise_at_an_edge_keeps_all_tables_as_they_are(world, where):
    world.misjudge(**{where: (23, 45)})
    assert refusals(world) == ""
    world.prove(low=30, high=70)
    before = {table: content(world, table) for table in TABLES}
    assert (
        "the replay and the live stream judge 2 records of source orders differently, and 1 of them fall "
        "into windows of output tens that are not swapped"
    ) in refusals(world)
    assert swap(world) == "refused"
    assert {table: content(world, table) for table in TABLES} == before


@pytest.mark.parametrize(
    ("chosen", "left"),
    [(["copy"], "_quarantine, tens"), (["_quarantine"], "copy, tens"), (["copy", "tens"], "_quarantine")],
)
def test_what_is_judged_otherwise_is_not_swapped_in_a_part_of_the_tables(world, chosen, left):
    world.misjudge(live=(45,))
    (told,) = plan_swap(world.settings, "r1", chosen).refusals
    assert f"they would be in the quarantine and in {left}, or in neither" in told


def test_without_knowing_when_it_happened_what_is_judged_otherwise_is_not_swapped(world):
    world.misjudge(live=(45,))
    world.judge([29])
    assert "when 1 of them happened was not looked up" in refusals(world)


# Earlier contracts


def test_rows_that_an_earlier_contract_may_have_written_are_not_taken_for_the_last_ones(world):
    earlier = contract(version=2, at={"zone": "Europe/Paris"})
    ContractStore(world.settings.state).put(earlier)
    assert f"table tens: version 2 of the contract ({earlier.hash[:12]})" in refusals(world)
    layout = CheckpointLayout(world.settings.checkpoints, "shop")
    note_ran(layout, read_lineage(layout, world.lineage), world.frozen.hash)
    assert "version 2" in refusals(world), "what ran before the list was begun is not known"
    (layout.folder / "contracts.json").write_text(
        json.dumps({"whole": True, "contracts": [world.frozen.hash]})
    )
    assert refusals(world) == "", "it was applied, and never ran"
    note_ran(layout, read_lineage(layout, world.lineage), earlier.hash)
    assert "version 2" in refusals(world)


# What comes after, or in between


@pytest.mark.parametrize("after", [1, 2])
def test_a_swap_that_was_cut_off_is_finished_ahead_of_another_order(world, monkeypatch, after):
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
            swap(world)
    driver(world, 6).finish()
    assert (noted(world)["state"], noted(world)["generation"]) == ("done", 6)
    assert {table: content(world, table) for table in TABLES} == before


def test_a_swap_that_had_changed_nothing_is_not_made_by_another_order(world):
    before, _ = {table: content(world, table) for table in TABLES}, spoil(world)
    spoiled = {table: content(world, table) for table in TABLES}
    write_note(world.own.swap, {"state": "begun", "generation": 5, "attempts": 1, "refusals": []})
    driver(world, 6).finish()
    assert noted(world)["state"] == "refused"
    assert "another order came" in str(noted(world)["refusals"])
    assert {table: content(world, table) for table in TABLES} == spoiled != before


def test_a_swap_that_a_restore_took_away_is_made_once_more_and_only_then(world):
    before = spoil(world)
    assert swap(world) == "done"
    copy = DeltaTable(str(world.live("copy")))
    swapped, version = content(world, "copy"), copy.version()
    copy.restore(version - 1)
    assert content(world, "copy") != swapped
    assert "copy" not in swapped_into(world.settings, "shop")
    plan = {each.table: each for each in plan_swap(world.settings, "r1").tables}
    assert (plan["copy"].done, plan["tens"].done) == (False, True)
    assert swap(world, generation=6) == "done"
    assert content(world, "copy") == before["copy"]
    # A restore to where it was in leaves it there.
    DeltaTable(str(world.live("copy"))).restore(version)
    assert all(each.done for each in plan_swap(world.settings, "r1").tables)


def test_where_the_log_does_not_go_back_to_the_swap_nothing_is_claimed(world):
    assert swap(world) == "done"
    copy = DeltaTable(str(world.live("copy")))
    for _ in range(2):
        copy.delete("place = -1")
        write_deltalake(str(world.live("copy")), copy.to_pyarrow_table().slice(0, 1), mode="append")
    last = max((world.live("copy") / "_delta_log").glob("*.json"))
    DeltaTable(str(world.live("copy"))).create_checkpoint()
    last.unlink()
    assert "whether a RESTORE took it out since is not known" in refusals(world)
    assert "copy" in swapped_into(world.settings, "shop")


# What is looked at again


def test_a_replay_that_has_not_ended_is_not_swapped(world):
    world.own.done.unlink()
    assert swap(world) == "refused"
    assert "it has not come to the end of its range" in refusals(world)


def test_a_topic_that_was_made_anew_since_the_order_is_found_by_the_driver(world, topics):
    topics.append("topic orders is gone or was made anew")
    assert swap(world) == "refused"
    assert "made anew" in str(noted(world)["refusals"])


def test_a_replay_of_another_pipeline_is_left_alone(world):
    versions = [DeltaTable(str(world.live(table))).version() for table in TABLES]
    Swapping(world.settings, "other", 5, 9.0, lambda: None).carry_out("r1", ())
    assert [DeltaTable(str(world.live(table))).version() for table in TABLES] == versions
    assert noted(world) == {}
    assert not (world.settings.state / "replays" / "other").exists()


def test_the_help_is_for_what_is_wrong(world):
    world.prove(free=(), why="the live stream has closed no window yet")
    plan = plan_swap(world.settings, "r1")
    assert plan.help == "headgate replay swap r1 --table copy --table _quarantine --dry-run"
    world.commit_live(LAST - 1, "records")
    assert "once more when it has read so far" in plan_swap(world.settings, "r1").help
    assert "one of _quarantine, copy, tens" in plan_swap(world.settings, "r1", ["nothing"]).help
