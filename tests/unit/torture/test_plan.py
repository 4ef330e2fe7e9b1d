from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.failpoints import BOUNDARIES
from headgate.torture.plan import Kind, has_reserve, make_plan

SEEDS = st.integers(min_value=0, max_value=2**32)


@settings(deadline=None)
@given(SEEDS, st.integers(0, 40))
def test_a_plan_is_a_function_of_its_seed_and_holds_as_many_faults_as_were_asked_for(
    seed: int, kills: int
) -> None:
    plan = make_plan(seed, kills, BOUNDARIES)
    assert plan == make_plan(seed, kills, BOUNDARIES)
    assert [fault.number for fault in plan] == list(range(1, kills + 1))


@settings(deadline=None)
@given(SEEDS, st.integers(0, 12))
def test_a_shorter_plan_is_the_beginning_of_a_longer_one(seed: int, kills: int) -> None:
    assert make_plan(seed, 20, BOUNDARIES)[:kills] == make_plan(seed, kills, BOUNDARIES)


@settings(deadline=None)
@given(SEEDS)
def test_every_kind_comes_before_the_deck_is_dealt_again(seed: int) -> None:
    deck = make_plan(seed, len(Kind) + 3, BOUNDARIES)
    assert {fault.kind for fault in deck} == set(Kind)


@settings(deadline=None)
@given(SEEDS)
def test_no_boundary_comes_twice_before_every_other_has_come(seed: int) -> None:
    named = [fault.failpoint for fault in make_plan(seed, 200, BOUNDARIES) if fault.failpoint]
    first = Counter(named[: len(BOUNDARIES)])
    assert set(first) == set(BOUNDARIES)
    assert set(first.values()) == {1}


@settings(deadline=None)
@given(SEEDS)
def test_only_the_kill_at_a_failpoint_names_one_and_every_time_is_short(seed: int) -> None:
    for fault in make_plan(seed, 30, ["records.gate"]):
        assert (fault.failpoint == "records.gate") == (fault.kind is Kind.KILL_AT_FAILPOINT)
        assert 0 < fault.after <= 2
        assert 0.5 <= fault.away <= 4
        assert fault.hit == 1 or fault.failpoint


@settings(deadline=None)
@given(SEEDS)
def test_a_pipeline_without_boundaries_still_gets_all_other_faults(seed: int) -> None:
    kinds = {fault.kind for fault in make_plan(seed, len(Kind) - 1, [])}
    assert kinds == set(Kind) - {Kind.KILL_AT_FAILPOINT}


def test_fifty_seeds_of_five_reach_every_kind_and_every_boundary() -> None:
    faults = [fault for seed in range(50) for fault in make_plan(seed, 5, BOUNDARIES)]
    assert {fault.kind for fault in faults} == set(Kind)
    assert {fault.failpoint for fault in faults} - {None} == set(BOUNDARIES)


def test_every_second_seed_has_a_driver_in_reserve() -> None:
    assert [has_reserve(seed) for seed in range(1, 5)] == [False, True, False, True]
