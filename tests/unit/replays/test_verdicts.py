"""What is judged otherwise: which windows a record is in, and what else is made from its source."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_world import TENS_SQL, contract, make_world, micros

from headgate.contract.frozen import ContractStore
from headgate.replays import swap, verdicts
from headgate.replays.evidence import WINDOWS_WAY, Way
from headgate.replays.model import write_note
from headgate.replays.spans import MICROS
from headgate.replays.verdicts import Windows, judged_otherwise

HALF = MICROS // 2
cuts = st.lists(st.integers(-20, 60), max_size=8, unique=True).map(sorted)


@given(cuts, st.integers(0, 7), st.integers(-15, 55), st.booleans())
def test_a_record_may_move_only_where_every_row_that_it_can_be_in_is_replaced(cut, length, at, tumbles):
    """Times count half seconds."""
    spans = [(low * HALF, high * HALF) for low, high in zip(cut[::2], cut[1::2], strict=False)]
    windows = Windows(Way("t", "o", "o", WINDOWS_WAY, seconds=float(length), tumbles=tumbles), spans)
    moment, step = at * HALF, length * MICROS if tumbles and length else HALF
    rows = {moment} if not length else set(range(moment - moment % step - length * MICROS, moment + 1, step))
    own = {row for row in rows if row <= moment < row + max(length * MICROS, 1)}
    stays = any(not any(low <= row <= high for low, high in spans) for row in own)
    if tumbles or not length:
        assert windows.keep(moment) == stays
    else:
        assert windows.keep(moment) or not stays


def test_where_both_judge_alike_nothing_is_in_the_way_of_any_table(tmp_path):
    world = make_world(tmp_path)
    ready = swap.Ready({}, [world.frozen], lambda _output: None)
    assert judged_otherwise(world.settings, world.replay, ready) == (0, [])


@pytest.fixture
def served(monkeypatch):
    """The oldest moment that Redis has of each output."""
    found: dict[str, int] = {}
    monkeypatch.setattr(swap, "_served_from", lambda *_: found.get)
    return found


@pytest.mark.parametrize("most", [1, 2, 5, 200])
def test_in_parts_of_any_size_the_same_is_found(tmp_path, monkeypatch, most):
    world = make_world(tmp_path)
    world.misjudge(live=(21, 45, 46, 79), side=(33,))
    world.prove(low=30, high=70)
    monkeypatch.setattr(verdicts, "_MOST", most)
    found = swap.plan_swap(world.settings, "r1")
    assert found.judged == 4, "the record 79 is bad for both"
    (told,) = found.refusals
    assert "and 1 of them fall into windows of output tens" in told


LATEST = {"sql": TENS_SQL, "mode": "update", "key": ["ten"], "to": [{"redis": "latest"}]}


def test_an_output_of_redis_alone_must_have_dropped_what_is_judged_otherwise(tmp_path, served):
    world = make_world(tmp_path, contract(latest=LATEST))
    world.misjudge(live=(45,))
    assert swap.plan_swap(world.settings, "r1").refusals == ()
    served["latest"] = micros(90)
    (told,) = swap.plan_swap(world.settings, "r1").refusals
    assert "in Redis, output latest, or in neither" in told


def test_a_source_that_no_contract_knows_may_be_behind_every_table(tmp_path):
    world = make_world(tmp_path)
    world.misjudge(live=(45,), source="renamed")
    found = swap.plan_swap(world.settings, "r1", ["_quarantine"])
    assert found.judged == 13, "all of its records have another source"
    assert any("source renamed" in each and "copy, tens" in each for each in found.refusals)


def test_an_output_that_only_the_live_contract_has_is_not_forgotten(tmp_path):
    world = make_world(tmp_path)
    made = {"sql": "SELECT at FROM orders", "to": [{"delta": "times"}]}
    live = contract(version=2, times=made)
    ContractStore(world.settings.state).put(live)
    world.run_live(live)
    assert swap.plan_swap(world.settings, "r1").refusals == ()
    world.misjudge(live=(45,))
    (told,) = swap.plan_swap(world.settings, "r1").refusals
    assert "in the quarantine and in times, or in neither" in told


def test_a_table_whose_windows_nobody_looked_up_keeps_the_quarantine_as_well(tmp_path):
    world = make_world(tmp_path)
    world.misjudge(side=(61,))
    write_note(world.own.evidence, {"lineage": world.lineage, "at": 1.0, "outputs": {}})
    refusals = swap.plan_swap(world.settings, "r1").refusals
    assert any("not looked up which of its windows" in each for each in refusals)
    assert any("in the quarantine and in tens, or in neither" in each for each in refusals)
