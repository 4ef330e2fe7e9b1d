"""A replay beside the live tables."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from replay_world import make_world

from headgate.replays import compare as module
from headgate.replays.compare import compare, differences


def row(key, value):
    return {"k": key, "v": value}


def test_rows_are_told_by_their_key_and_numbers_by_a_tolerance():
    live = [row(1, 0.1 + 0.2), row(2, 5.0), row(3, 1.0), row(None, 7.0)]
    found = differences(live, [row(1, 0.3), row(2, 6.0), row(4, 1.0), row(None, 7.0)], key=["k"])
    assert (found.same, found.only_live, found.only_replay, found.differing) == (2, 1, 1, 1)
    assert sorted(found.examples) == [
        "differs: k=2, v=5.0 in the live table, k=2, v=6.0 in the replay",
        "only live: k=3, v=1.0 in the live table",
        "only replayed: k=4, v=1.0 in the replay",
    ]


def test_of_each_kind_a_few_examples_are_shown_and_all_are_counted():
    found = differences([row(n, 0.0) for n in range(50)], [], key=["k"])
    assert found.only_live == 50
    assert len(found.examples) == 5


def test_rows_that_share_a_key_are_compared_together_and_in_any_order():
    rows = [row(1, "a"), row(1, "b"), row(1, "b")]
    assert differences(rows, rows[::-1], key=["k"]).same == 1
    assert differences(rows, rows[:2], key=["k"]).differing == 1


rows = st.lists(st.builds(row, st.integers(0, 5) | st.none(), st.integers(0, 2)), max_size=12)


@given(rows, rows)
def test_each_key_is_counted_once_and_both_directions_agree(left, right):
    there, back = differences(left, right, key=["k"]), differences(right, left, key=["k"])
    keys = len({each["k"] for each in left + right})
    assert there.same + there.only_live + there.only_replay + there.differing == keys
    assert (there.only_live, there.only_replay) == (back.only_replay, back.only_live)
    assert (there.same, there.differing) == (back.same, back.differing)
    assert differences(left, left, key=["k"]).same == len({each["k"] for each in left})


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


def compared(world):
    return {each.table: each for each in compare(world.settings, world.replay)}


def test_an_undisturbed_stream_agrees_with_its_replay(world):
    found = compared(world)
    assert all(each.agrees for each in found.values())
    assert {name: (each.live_rows, each.difference.same, each.kept) for name, each in found.items()} == {
        "copy": (54, 54, 0),
        "tens": (6, 6, 0),
        "_quarantine": (6, 6, 0),
    }


def test_what_is_missing_in_the_live_tables_is_found_and_what_is_outside_the_range_is_not_looked_at(world):
    copy = DeltaTable(str(world.live("copy")))
    copy.delete("place IN (5, 30, 31, 90)")
    copy.update(updates={"amount": "0"}, predicate="place = 40")
    found = compared(world)["copy"]
    assert not found.agrees
    assert (found.difference.only_replay, found.difference.differing, found.live_rows) == (2, 1, 52)


def test_windows_at_the_edges_of_the_range_are_told_and_not_compared(world):
    world.prove(low=30, high=60)
    DeltaTable(str(world.live("tens"))).update(updates={"n": "1"}, predicate="mean < 30")
    found = compared(world)["tens"]
    assert (found.agrees, found.kept, found.difference.same) == (True, 2, 4)
    world.prove(free=(), why="the live stream has closed no window yet")
    found = compared(world)["tens"]
    assert not found.agrees
    assert found.why == "the live stream has closed no window yet"
    assert found.replay_rows == 6


def counted(world):
    found = {name: each.difference for name, each in compared(world).items()}
    return {name: (d.same, d.only_live, d.only_replay, d.differing) for name, d in found.items()}


@pytest.mark.parametrize("size", [1, 7, 20, 53, 54, 200])
def test_in_parts_of_any_size_the_same_is_found(world, monkeypatch, size):
    copy = DeltaTable(str(world.live("copy")))
    copy.delete("place IN (5, 30, 31, 90)")
    copy.update(updates={"amount": "0"}, predicate="place = 40")
    doubled = copy.to_pyarrow_table().filter(pc.field("place") > 69)
    write_deltalake(str(world.live("copy")), doubled, mode="append")
    DeltaTable(str(world.live("tens"))).update(updates={"n": "1"}, predicate="mean < 30")
    whole = counted(world)
    monkeypatch.setattr(module, "_PART", size)
    assert counted(world) == whole
    assert whole["copy"][3] == 10


def test_a_moment_with_too_many_rows_is_not_compared(world, monkeypatch):
    for path in (world.live("tens"), world.side("tens")):
        rows = DeltaTable(str(path)).to_pyarrow_table()
        write_deltalake(str(path), pa.concat_tables([rows] * 4), mode="append")
    monkeypatch.setattr(module, "_PART", 4)
    assert compared(world)["tens"].difference.same == 6
    monkeypatch.setattr(module, "_MOST_OF_ONE", 8)
    assert "more than 8 rows are of one window" in compared(world)["tens"].why
