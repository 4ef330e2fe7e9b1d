"""A swap on its way from an order to a driver; what may be ordered; what a replay says of its topics."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_world import make_world

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.origin import Origin, unsettled, write_origin
from headgate.checkpoints.owner import OwnerClaim
from headgate.checkpoints.ran import contracts_ran
from headgate.errors import NotFoundError, RefusedError
from headgate.replays import planning
from headgate.replays.model import KIND, damaged_replays, find_replays, read_replay, write_note
from headgate.replays.planning import make_tables, topics_changed
from headgate.replays.swapping import Swapping
from headgate.streams.api import OriginBody
from headgate.streams.operations import (
    IllegalOperation,
    Operation,
    note,
    operation_of,
    operations_in,
)
from headgate.streams.store import StateStore
from headgate.topics.live import read_table
from spark.generation import begin_generation
from spark.incarnation import Order

SWAP = Origin("checkpoint", replay="r1", tables=("copy", "_quarantine"))


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path)


@pytest.fixture
def store(tmp_path):
    opened = StateStore(f"sqlite:///{tmp_path}/store.db")
    yield opened
    opened.close()


def test_a_swap_travels_with_its_order_and_one_without_it_reads_as_before():
    data = json.loads(json.dumps(SWAP.to_json()))
    assert Origin.from_json(data) == SWAP
    assert OriginBody.model_validate(data).origin() == SWAP
    assert SWAP.told == "checkpoint, with replay r1 swapped in"
    older = {name: value for name, value in data.items() if name not in ("replay", "tables")}
    assert Origin.from_json(older) == Origin("checkpoint")


def test_the_driver_of_such_a_generation_goes_on_at_its_checkpoint_and_swaps_it_in(
    world, monkeypatch, tmp_path
):
    done = []
    monkeypatch.setattr(Swapping, "finish", lambda self, besides: done.append(("finish", besides)))
    monkeypatch.setattr(Swapping, "carry_out", lambda self, *what: done.append((self.generation, *what)))
    layout = CheckpointLayout(world.settings.checkpoints, "shop")
    assert not unsettled(layout, SWAP, 7), "the checkpoint stays, so preflight judges it"
    claim = OwnerClaim(layout.owners, 1)
    for origin in (SWAP, None, Origin("checkpoint")):
        path = tmp_path / "origin.json"
        if origin is not None:
            write_origin(path, origin)
        order = Order("shop", world.frozen.hash, 7, 1, str(path) if origin is not None else None)
        assert begin_generation(world.settings, world.frozen, order, claim, "4").id == world.lineage
    assert done == [
        ("finish", "r1"),
        (7, "r1", ("copy", "_quarantine")),
        ("finish", ""),
        ("finish", ""),
    ]
    assert contracts_ran(layout)[0] == [world.frozen.hash]


STATES = ("requested", "running", "done", "failed", "swapping", "swapped", "discarding", "discarded")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(STATES), max_size=10))
def test_whatever_is_asked_a_replay_is_swapped_only_at_its_end_and_never_after_it_is_discarded(
    tmp_path_factory, wanted
):
    store, seen = StateStore(f"sqlite:///{tmp_path_factory.mktemp('store')}/s.db"), ["requested"]
    note(store, "shop", KIND, "r1", "requested", actor="cli:a", at=0.0)
    for state in wanted:
        try:
            seen.append(note(store, "shop", KIND, "r1", state, actor="cli:a", at=1.0).state)
        except IllegalOperation:
            continue
    store.close()
    pairs = list(itertools.pairwise(seen))
    assert all(before in ("done", "swapping", "swapped") for before, after in pairs if after == "swapping")
    assert all(before in ("discarding", "discarded") for before, after in pairs if after == "discarded")
    assert all(after == "discarded" for before, after in pairs if before == "discarded")
    assert all(before != "swapping" for before, after in pairs if after == "discarding")


def test_operations_are_found_by_their_state_the_oldest_first(store):
    for at, name in enumerate(("b", "a", "c")):
        note(store, "shop", KIND, name, "requested", actor="cli:a", at=float(at))
    note(store, "shop", KIND, "c", "running", actor="cli:a", at=4.0)
    note(store, "shop", "snapshot", "d", "requested", actor="cli:a", at=5.0)
    assert [each.name for each in operations_in(store, KIND, ("requested",))] == ["b", "a"]
    found = operation_of(store, "shop", KIND, "c")
    assert isinstance(found, Operation)
    assert found.state == "running"
    assert operation_of(store, "shop", KIND, "z") is None


def test_a_topic_that_was_made_anew_means_other_records(world, store):
    assert topics_changed(world.settings, store, world.replay) == [
        "topic orders is not the one that was applied: headgate plan"
    ]
    store.remember_topic("orders", "id", "shop", 0.5)
    assert topics_changed(world.settings, store, world.replay) == []
    store.remember_topic("orders", "id", "shop", 5.0)  # the first lineage has begun at 1.0
    assert "was made anew since the first record" in topics_changed(world.settings, store, world.replay)[0]


def test_a_replay_that_would_not_fit_beside_the_drivers_is_refused(world, store, monkeypatch):
    monkeypatch.setattr(planning, "machine_memory", lambda: 10**10)
    assert planning._memory(world.settings, store, world.frozen) == []
    monkeypatch.setattr(planning, "machine_memory", lambda: 2 * 10**9)
    assert planning._memory(world.settings, store, world.frozen) == []
    note(store, "shop", KIND, "r1", "running", actor="cli:a", at=1.0)
    (told,) = planning._memory(world.settings, store, world.frozen)
    assert "replay r1" in told
    assert "this replay" in told


def test_its_own_tables_are_those_of_the_contract_and_empty(world):
    layout = world.own
    for table in ("copy", "tens", "_quarantine"):
        assert (layout.tables / "shop" / table).is_dir()
    other = type(layout)(layout.state, "shop", "r2")
    make_tables(other, world.frozen)
    made = read_table(other.tables / "shop" / "_quarantine")
    assert made is not None
    assert {"topic", "partition", "offset"} <= {each["name"] for each in made.schema["fields"]}


def test_what_is_damaged_is_no_replay_and_hides_no_other(world):
    write_note(world.own.folder.with_name("r0") / "replay.json", {"id": "r0"})
    assert [each.id for each in find_replays(world.settings.state)] == ["r1"]
    ((folder, error),) = damaged_replays(world.settings.state)
    assert (folder.name, "is not a replay" in error.message) == ("r0", True)
    with pytest.raises(RefusedError, match="is not a replay"):
        read_replay(world.settings.state, "r0")
    with pytest.raises(NotFoundError):
        read_replay(world.settings.state, "../shop/r1")
    assert read_replay(world.settings.state, "r1") == world.replay


def test_the_side_of_a_replay_shares_nothing_that_is_written(world):
    side, live = world.own.side(world.settings), world.settings
    assert side.checkpoints.is_relative_to(world.own.folder)
    assert side.tables.is_relative_to(world.own.folder)
    assert (side.state, side.kafka) == (live.state, live.kafka)
    assert not live.checkpoints.is_relative_to(world.own.folder)
