"""The number of records of a batch: bounded by bytes and time, and never to and fro."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.batches.bounds import Bounds
from headgate.batches.cap import (
    AGREE,
    Batch,
    cap_at_once,
    cap_for_bytes,
    cap_on_the_way_up,
    cap_that_fits,
    cap_worth_its_state,
    first_cap,
    guessed_cap,
    next_cap,
)

MB = 1024 * 1024
BOUNDS = Bounds(bytes=64 * MB, records=500_000, seconds=30.0)

some_bounds = st.builds(
    Bounds,
    bytes=st.integers(1, 2**34),
    records=st.integers(1, 1_000_000),
    seconds=st.floats(0.1, 3_600),
)
sizes = st.floats(0, 2 * MB)
some_batches = st.lists(
    st.builds(
        Batch,
        records=st.integers(1, 2_000_000),
        bytes=st.integers(0, 2**40),
        record_bytes=sizes,
        seconds=st.floats(0, 10_000),
    ),
    max_size=5,
)


def of(records: int, record_bytes: float, seconds: float) -> Batch:
    return Batch(records, round(records * record_bytes), record_bytes, seconds)


def run(
    bounds: Bounds,
    cap: int,
    record_bytes: float,
    *,
    fixed: float,
    each: float,
    batches: int,
    part: float = 1.0,
) -> list[int]:
    """The caps of so many batches, each of which takes `fixed` seconds and `each` for a record. `part` of
    what one may have is what Spark's rounding leaves."""
    caps, seen = [cap], list[Batch]()
    for _ in range(batches):
        now = caps[-1]
        records = max(1, round(now * part))
        seen.append(of(records, record_bytes, fixed + each * records))
        caps.append(next_cap(now, seen, bounds))
        if caps[-1] != now:
            seen = []
    return caps


@pytest.mark.parametrize(
    ("record_bytes", "expected"),
    [(None, 500_000), (0.0, 500_000), (100.0, 500_000), (2048.0, 32_768), (1.0 * MB, 64), (100.0 * MB, 1)],
)
def test_the_first_cap_is_what_fits_by_the_sample_and_the_count_where_there_is_none(record_bytes, expected):
    assert first_cap(BOUNDS, record_bytes) == expected


@pytest.mark.parametrize(("partitions", "cap"), [(1, 64), (64, 64), (200, 200)])
def test_records_of_which_nothing_is_known_are_taken_for_large_ones(partitions, cap):
    assert guessed_cap(BOUNDS, partitions) == cap
    assert guessed_cap(Bounds(bytes=100, records=50, seconds=1.0), partitions) == min(50, partitions)


@pytest.mark.parametrize("rule", [next_cap, cap_at_once, cap_for_bytes, cap_on_the_way_up, cap_that_fits])
def test_one_batch_of_more_than_twice_its_bytes_is_enough_to_take_less(rule):
    assert rule(500_000, [of(129, 1.0 * MB, 1.0)], BOUNDS) == 64
    assert rule(500_000, [of(128, 1.0 * MB, 1.0)], BOUNDS) == 500_000


@pytest.mark.parametrize("rule", [next_cap, cap_at_once, cap_for_bytes, cap_on_the_way_up, cap_that_fits])
@given(cap=st.integers(1, 1_000_000), part=st.floats(0.0, 1.5), size=st.integers(0, 2**40))
def test_a_cap_that_is_taken_back_at_once_is_no_more_than_half_of_what_it_was(rule, cap, part, size):
    records = max(1, round(cap * part))
    found = rule(cap, [Batch(records, size, size / records, 1.0)], BOUNDS)
    assert found == cap or found * 2 <= cap


@pytest.mark.parametrize("rule", [next_cap, cap_at_once, cap_for_bytes, cap_on_the_way_up, cap_that_fits])
def test_a_batch_of_more_records_than_the_cap_was_not_made_so_large_by_it(rule):
    """Spark rounds each partition up to one record; 300 partitions under a cap of 40."""
    assert rule(40, [of(300, 2.0 * MB, 1.0)], BOUNDS) == 40


def test_a_query_that_is_to_rest_gets_less_for_bytes_and_never_more_nor_less_for_time():
    slow, quick, wide = of(1_000, 2048.0, 900.0), of(1_000, 2048.0, 0.1), of(100, 1.0 * MB, 1.0)
    assert cap_for_bytes(1_000, [slow] * AGREE, BOUNDS) == 1_000
    assert cap_for_bytes(1_000, [quick] * AGREE, BOUNDS) == 1_000
    assert cap_for_bytes(1_000, [wide] * AGREE, BOUNDS) == 64


def test_a_query_on_the_way_up_gets_more_at_once_and_less_for_bytes_alone():
    slow, quick, wide = of(1_000, 2048.0, 900.0), of(1_000, 2048.0, 0.1), of(100, 1.0 * MB, 1.0)
    assert cap_on_the_way_up(1_000, [slow] * AGREE, BOUNDS) == 1_000
    assert cap_on_the_way_up(1_000, [quick] * AGREE, BOUNDS) == 32_768
    assert cap_on_the_way_up(1_000, [wide] * AGREE, BOUNDS) == 64


def test_a_cap_that_is_seldom_changed_becomes_what_fits_however_long_it_takes():
    slow, quick = of(64, 2048.0, 900.0), of(64, 2048.0, 0.1)
    assert cap_that_fits(64, [slow] * AGREE, BOUNDS) == 32_768
    assert cap_that_fits(64, [quick] * AGREE, BOUNDS) == 32_768
    assert cap_that_fits(64, [of(64, 1.0 * MB, 900.0)] * AGREE, BOUNDS) == 64


def test_what_one_batch_had_counts_for_itself_also_where_records_were_smaller_until_now():
    assert next_cap(500_000, [Batch(200, 200 * MB, 2_000.0, 1.0)], BOUNDS) == 64


def test_a_cap_that_full_batches_would_not_fit_under_is_taken_back_before_there_is_one():
    small = of(3, 1.0 * MB, 0.1)
    assert next_cap(500_000, [small] * (AGREE - 1), BOUNDS) == 500_000
    assert next_cap(500_000, [small] * AGREE, BOUNDS) == 64


def test_batches_that_take_far_longer_than_they_may_become_smaller():
    assert next_cap(1_000, [of(1_000, 2048.0, 120.0)] * 2, BOUNDS) == 1_000
    assert next_cap(20_000, [of(20_000, 2048.0, 120.0)] * AGREE, BOUNDS) == 5_000


def test_one_batch_that_waited_for_a_service_changes_nothing():
    quick = of(1_000, 2048.0, 20.0)
    assert next_cap(1_000, [quick, of(1_000, 2048.0, 900.0), quick], BOUNDS) == 1_000


def test_a_batch_whose_time_does_not_depend_on_its_records_does_not_make_them_ever_fewer():
    caps = run(BOUNDS, 32_768, 2048.0, fixed=500.0, each=0.0, batches=60)
    assert caps[-1] == 32_768 // 8


def test_a_backlog_of_small_records_under_a_cap_for_large_ones_is_read_in_larger_batches():
    assert next_cap(64, [of(64, 2048.0, 0.5)] * AGREE, BOUNDS) == 3_840  # by time
    assert next_cap(64, [of(64, 2048.0, 0.001)] * AGREE, BOUNDS) == 32_768  # by bytes


def test_a_backlog_is_not_held_back_by_a_time_that_every_batch_takes():
    assert next_cap(100, [of(60, 2048.0, 17.0)] * AGREE, BOUNDS) == 200
    assert next_cap(100, [of(60, 2048.0, 18.0)] * AGREE, BOUNDS) == 100
    caps = run(BOUNDS, 100, 2048.0, fixed=20.0, each=0.0, batches=60)
    assert caps[-1] > 32_768 // 2


def test_a_cap_of_one_or_two_records_does_not_go_to_and_fro():
    bounds = Bounds(bytes=64 * MB, records=500_000, seconds=1.5)
    assert run(bounds, 1, 2048.0, fixed=0.0, each=1.0, batches=30)[-9:] == [2] * 9


def test_batches_that_leave_nothing_behind_ask_for_no_more():
    assert next_cap(64, [of(20, 2048.0, 0.001)] * AGREE, BOUNDS) == 64


def test_a_batch_of_an_older_plan_does_not_take_a_cap_below_what_fits():
    assert next_cap(64, [of(500, 1.0 * MB, 200.0)], BOUNDS) == 64


@given(some_bounds, st.integers(1, 1_000_000), some_batches)
def test_whatever_batches_were_a_cap_is_a_number_of_records_that_the_contract_allows(bounds, cap, batches):
    found = next_cap(min(cap, bounds.records), batches, bounds)
    assert 1 <= found <= bounds.records


@given(
    st.tuples(some_bounds, st.integers(1, 1_000_000), sizes),
    st.floats(0, 1_000),
    st.floats(0, 1),
    st.floats(0.5, 1.0),
)
def test_a_backlog_of_records_that_are_all_alike_comes_to_one_cap_without_ever_turning_back(
    world, fixed, each, part
):
    bounds, cap, record_bytes = world
    cap = min(cap, bounds.records)
    caps = run(bounds, cap, record_bytes, fixed=fixed, each=each, batches=150, part=part)
    changes = [after - before for before, after in pairwise(caps) if after != before]
    assert len({change > 0 for change in changes}) <= 1, f"to and fro: {caps}"
    assert len(set(caps[-20:])) == 1, f"no end: {caps}"
    assert caps[-1] == 1 or caps[-1] * record_bytes <= 2 * bounds.bytes


@given(
    st.lists(
        st.tuples(st.floats(1.0, 1.99), st.floats(0.5, 1.0), st.floats(0.51, 1.0)), min_size=1, max_size=40
    )
)
def test_records_and_times_that_vary_by_less_than_twofold_never_change_a_cap(noise):
    settled = Bounds(bytes=64 * MB, records=10**9, seconds=30.0)
    cap = first_cap(settled, 2048.0 * 1.99)
    seen: list[Batch] = []
    for size, full, slow in noise:
        seen.append(of(max(1, int(cap * full)), 2048.0 * size, 30.0 * full * slow * 1.9))
        assert next_cap(cap, seen, settled) == cap


def estimated(records: int, record_bytes: float) -> Batch:
    return Batch(records, round(records * record_bytes), record_bytes, 1.0, measured=False)


def test_one_estimate_of_far_too_many_bytes_takes_nothing_back_and_several_do():
    batches = [estimated(1_000, MB)] * AGREE
    assert cap_at_once(1_000, batches[:1], BOUNDS) == 1_000
    assert cap_at_once(1_000, [estimated(1_000, 1_024.0), *batches[1:]], BOUNDS) == 1_000
    assert cap_at_once(1_000, batches, BOUNDS) == 64


def test_a_large_state_is_worth_many_times_more_records_and_no_few():
    assert cap_worth_its_state(1_000, [estimated(1_000, 64 * MB / 7_999)] * AGREE, BOUNDS) == 1_000
    assert cap_worth_its_state(1_000, [estimated(1_000, 64 * MB / 8_001)] * AGREE, BOUNDS) == 8_001
    assert cap_worth_its_state(1_000, [estimated(1_000, MB)] * AGREE, BOUNDS) == 64
