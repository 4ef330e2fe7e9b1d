from __future__ import annotations

import pytest
from contract_examples import contract_of
from hypothesis import given
from hypothesis import strategies as st

from headgate.batches.cap import AGREE
from headgate.batches.caps import BatchCaps, Ended, Told
from headgate.checkpoints.layout import RECORDS
from headgate.contract.frozen import ResolvedOutput, freeze

MB = 1024 * 1024
EMPTY = {"env.ta": None, "env.tb": None}


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class World:
    """Two sources and a stateful output; each source has 32 MB of a batch."""

    def __init__(
        self, sampled: dict[str, float | None] | None = None, before: dict[str, float] | None = None
    ) -> None:
        columns = [{"name": "n", "type": "int"}]
        source = {"columns": columns, "partitions": 4}
        frozen = freeze(
            contract_of(
                {"a": {"topic": "ta", **source}, "b": {"topic": "tb", **source}},
                {"o": {"sql": "SELECT n FROM a", "to": [{"delta": "o"}]}},
                job={"max_bytes_per_batch": "64m", "max_records_per_batch": 100_000},
            ),
            topics={"a": "env.ta", "b": "env.tb"},
            replication=1,
            outputs={"o": ResolvedOutput(True, {"type": "struct", "fields": []})},
            env="local",
            headgate_version="0",
        )
        self.clock = Clock()
        self.caps = BatchCaps(frozen, clock=self.clock)
        self.caps.sampled(EMPTY if sampled is None else sampled, before)
        self._batch = 0

    def records(
        self,
        records: int,
        record_bytes: float,
        seconds: float = 1.0,
        offsets: int | None = None,
        run: str = "r1",
    ) -> Ended:
        """A batch of the record query, of source `a` alone."""
        self._batch += 1
        self.caps.measured("a", self._batch, records, round(records * record_bytes))
        read = {"env.ta": records if offsets is None else offsets}
        return self.caps.ended(RECORDS, Told(run, self._batch, read, seconds))

    def output(self, records: int, seconds: float = 1.0, run: str = "o1", state: int = 0) -> Ended:
        self._batch += 1
        return self.caps.ended("o", Told(run, self._batch, {"env.ta": records}, seconds, state))

    def take(self, query: str, run: str = "r1") -> dict[str, int]:
        due = self.caps.due(query)
        assert due is not None
        self.caps.take(query, due, run)
        return dict(due)


def test_every_query_starts_with_what_was_sampled_of_each_topic():
    found = World({"env.ta": 1.0 * MB, "env.tb": None}).caps
    assert found.of(RECORDS) == found.of("o") == {"a": 32, "b": 100_000}


def test_records_of_which_nobody_knows_how_large_they_are_are_taken_for_large_ones():
    found = World({"env.ta": 1_000.0}).caps
    assert found.of(RECORDS) == found.of("o") == {"a": 33_554, "b": 32}


@pytest.mark.parametrize("query", [RECORDS, "o"])
def test_a_cap_that_was_guessed_grows_to_what_the_records_are(query):
    world = World({})
    for _ in range(AGREE):
        world.records(32, 1_024.0, 0.01)
        world.output(32, 0.01)
    assert world.take(query) == {"a": 32_768, "b": 32}


def test_what_an_earlier_driver_measured_counts_where_a_topic_cannot_be_looked_at_or_is_empty():
    world = World({"env.tb": None}, {"env.ta": 1_024.0, "env.tb": 1.0 * MB})
    assert world.caps.of(RECORDS) == world.caps.of("o") == {"a": 32_768, "b": 32}
    assert World({"env.ta": 2_048.0, "env.tb": None}, {"env.ta": 1_024.0}).caps.of(RECORDS)["a"] == 16_384


def test_what_was_measured_is_there_for_the_next_driver():
    world = World({"env.ta": 1_000.0, "env.tb": None})
    assert world.caps.sizes() == {"env.ta": 1_000.0}
    world.records(10_000, 4_000.0)
    assert world.caps.sizes()["env.ta"] == pytest.approx(4_000.0, rel=0.01)


def test_what_the_record_query_measures_counts_for_the_other_queries_too():
    world = World()
    assert world.output(400) == Ended(None, 200_000)
    world.records(500, 1.0 * MB)
    assert world.output(400) == Ended(400 * MB, 200_000)
    assert world.caps.due("o") is None, "the two may read different parts of the topic"
    for _ in range(AGREE - 1):
        world.output(400)
    assert world.caps.due("o") == {"a": 32, "b": 100_000}


def test_a_few_large_records_that_another_query_meets_do_not_make_a_query_small():
    world = World({"env.ta": 1_000.0, "env.tb": None})
    before = world.caps.of("o")["a"]
    world.records(100, 1.0 * MB)
    world.output(5_000)
    for _ in range(AGREE):
        world.records(before, 1_000.0)
        world.output(before)
    assert world.caps.due("o") is None


@pytest.mark.parametrize("reason", ["for a service", "for other tasks", "and other tasks have read it"])
def test_a_batch_that_took_long_for_no_reason_of_its_own_makes_none_smaller(reason):
    caps = World({"env.ta": 1_000.0, "env.tb": None}).caps
    full = caps.of(RECORDS)["a"]
    for batch in range(AGREE):
        others, read = reason != "for a service", reason == "and other tasks have read it"
        caps.measured("a", batch, full, full * 1_000, elsewhere=read, waited=others)
        caps.ended(RECORDS, Told("r1", batch, {"env.ta": full}, 1_000.0, waited=not others))
    assert caps.due(RECORDS) is None
    for batch in range(AGREE, 2 * AGREE):
        caps.measured("a", batch, full, full * 1_000)
        caps.ended(RECORDS, Told("r1", batch, {"env.ta": full}, 1_000.0))
    assert caps.due(RECORDS) is not None


def test_a_small_cap_grows_also_where_other_tasks_read_all_of_its_batches():
    caps = World({}).caps
    for batch in range(AGREE):
        caps.measured("a", batch, 32, 32_768, elsewhere=True, waited=True)
        caps.ended(RECORDS, Told("r1", batch, {"env.ta": 32}, 1_000.0))
    assert caps.due(RECORDS) == {"a": 32_768, "b": 32}


def test_a_query_is_behind_while_its_batches_are_full():
    world = World({"env.ta": 1_000.0, "env.tb": None})
    cap = world.caps.of(RECORDS)["a"]
    assert not world.caps.behind(RECORDS)
    for records, expected in ((cap, True), (cap // 2 + 1, True), (cap // 3, False), (cap, True)):
        world.records(records, 1_000.0)
        assert world.caps.behind(RECORDS) is expected
    assert not world.caps.behind("o")


def test_a_cap_that_is_taken_is_judged_by_its_own_batches():
    world = World()
    world.records(500, 1.0 * MB)
    assert world.take(RECORDS) == {"a": 32, "b": 100_000}
    assert world.caps.of("o") == {"a": 100_000, "b": 100_000}
    assert world.caps.due(RECORDS) is None
    world.records(500, 1.0 * MB, run="r2")  # planned before, and run again
    assert world.caps.due(RECORDS) is None


def test_a_batch_of_the_run_before_that_is_told_late_says_nothing_of_the_cap_since():
    world = World({"env.ta": 1.0 * MB, "env.tb": None})
    for _ in range(AGREE):
        world.records(32, 1_024.0, 0.01)
    world.take(RECORDS)
    world.clock.now += 1_000
    for _ in range(AGREE):
        world.records(32, 1.0 * MB, run="r1")
    assert world.caps.due(RECORDS) is None
    for _ in range(AGREE):
        world.records(32, 1.0 * MB, run="r2")
    assert world.caps.due(RECORDS) is not None


def test_one_odd_record_among_many_changes_nothing_for_long():
    world = World({"env.ta": 1_000.0, "env.tb": None})
    before = world.caps.of(RECORDS)
    world.records(10_000, 1_000.0)
    for size in (1 * MB, 1_000, 1_000, 1_000, 1 * MB, 1_000):
        world.records(1, size, 0.1)
    assert world.caps.due(RECORDS) is None
    assert world.caps.of(RECORDS) == before
    assert world.records(100, 1.0 * MB).bytes == 100 * MB
    assert world.caps.due(RECORDS) == {"a": 32, "b": 100_000}


def test_offsets_without_records_are_no_bytes():
    """Of a compacted topic, or of one with transactions: one record in ten offsets."""
    world = World({"env.ta": 1_000.0, "env.tb": None})
    cap = world.caps.of(RECORDS)["a"]
    for _ in range(AGREE):
        ended = world.records(cap // 10, 1_000.0, 1.0, offsets=cap)
        assert ended.bytes == cap // 10 * 1_000
    assert world.output(cap).bytes == pytest.approx(cap * 100, rel=0.25)
    due = world.caps.due(RECORDS)
    assert due is not None
    assert due["a"] == 100_000, "ten times as many offsets have the bytes of a batch"


def test_the_bytes_of_a_batch_are_its_own_however_late_it_is_told():
    caps = World({"env.ta": 1_000.0, "env.tb": None}).caps

    def told(batch: int) -> int | None:
        return caps.ended(RECORDS, Told("r1", batch, {"env.ta": 10_000}, 1.0)).bytes

    caps.measured("a", 7, 10_000, 10_000_000)
    caps.measured("a", 8, 10_000, 20_000_000)  # measured before the batch ahead of it was told
    assert (told(7), told(8)) == (10_000_000, 20_000_000)


def test_the_records_of_a_first_batch_stand_for_its_offsets():
    caps = World().caps
    caps.measured("a", 0, 500, 500 * MB)
    caps.ended(RECORDS, Told("r1", 0, {}, 1.0))
    assert caps.due(RECORDS) == {"a": 32, "b": 100_000}


def test_batches_without_records_say_nothing():
    world = World({"env.ta": 1_000.0, "env.tb": None})
    for _ in range(AGREE):
        assert world.records(0, 0.0, 0.1).bytes == 0
    assert world.caps.due(RECORDS) is None


def test_a_query_with_little_state_starts_again_for_larger_batches_and_never_for_time():
    world = World({"env.ta": 1.0 * MB, "env.tb": None})
    for _ in range(AGREE):
        world.records(32, 1_024.0, 0.01)
        world.output(32, 10_000.0, state=64 * MB)
    assert world.take("o", "o1")["a"] > 10 * 32
    for _ in range(AGREE):
        world.output(world.caps.of("o")["a"], 10_000.0, run="o2")
    assert world.caps.due("o") is None


def test_a_query_with_much_state_starts_again_for_far_too_many_bytes_or_far_too_few_and_for_nothing_else():
    much = 256 * MB + 1  # a quarter of the heap
    world = World({"env.ta": 1.0 * MB, "env.tb": None})
    for _ in range(AGREE):
        world.records(32, MB / 7, 0.01)
        world.output(32, 0.01, state=much)
    assert world.caps.due("o") is None, "not for a few times more"
    for _ in range(AGREE):
        world.output(32, 10_000.0, state=much)
    assert world.caps.due("o") is None, "not for time"
    for _ in range(AGREE):
        world.records(32, 3.0 * MB)
    for _ in range(AGREE):
        assert world.caps.due("o") is None
        world.output(32, state=much)
    assert world.take("o", "o1")["a"] <= 16


def test_what_one_burst_of_large_records_has_made_small_grows_again_whatever_the_state_is():
    world = World({"env.ta": 1_024.0, "env.tb": None})
    for _ in range(AGREE):
        world.records(32_000, 1.0 * MB)
        world.output(32_000, state=1024 * MB)
    small = world.take("o", "o1")["a"]
    assert small == pytest.approx(32, abs=4)
    full(world, "r1", 1_024.0, 0.1)
    for _ in range(AGREE):
        world.records(32_000, 1_024.0)
        world.output(small, 0.1, run="o2", state=1024 * MB)
    assert world.caps.due("o") is None, "not before it has rested"
    world.clock.now += 301
    assert world.take("o", "o2")["a"] > 16_000


def full(world: World, run: str, record_bytes: float, seconds: float) -> None:
    for _ in range(AGREE):
        world.records(world.caps.of(RECORDS)["a"], record_bytes, seconds, run=run)


def test_a_query_that_has_just_taken_less_takes_no_more_until_it_has_rested():
    world = World({"env.ta": 1_024.0, "env.tb": None})
    full(world, "r1", 10.0 * 1_024, 1.0)
    before = world.take(RECORDS)["a"]
    full(world, "r2", 100.0, 0.1)
    assert world.caps.due(RECORDS) is None
    full(world, "r2", 10_240.0, 10_000.0)
    assert world.caps.due(RECORDS) is None, "nor less for time"
    full(world, "r2", 1.0 * MB, 0.1)
    assert world.take(RECORDS, "r2")["a"] < before, "for bytes"
    full(world, "r3", 100.0, 0.1)
    world.clock.now += 299
    assert world.caps.due(RECORDS) is None
    world.clock.now += 2
    assert world.caps.due(RECORDS) is not None


def test_a_query_that_has_just_taken_more_goes_on_and_turns_back_for_bytes_alone():
    world = World({"env.ta": 1.0 * MB, "env.tb": None})
    full(world, "r1", 1_024.0, 20.0)
    first = world.take(RECORDS)["a"]
    full(world, "r2", 1_024.0, 20.0)
    second = world.take(RECORDS, "r2")["a"]
    assert 32 < first < second
    full(world, "r3", 1_024.0, 10_000.0)
    assert world.caps.due(RECORDS) is None, "not for time"
    world.records(second, 1.0 * MB, run="r3")
    assert (world.caps.due(RECORDS) or {})["a"] < second


@given(
    small=st.floats(1.0, 4_096.0),
    large=st.floats(100_000.0, 4.0 * MB),
    kinds=st.lists(st.booleans(), min_size=20, max_size=80),
    every=st.floats(1.0, 400.0),
)
@pytest.mark.parametrize("query", [RECORDS, "o"])
def test_batches_of_two_kinds_by_turns_start_a_query_again_seldom(query, small, large, kinds, every):
    """More only after a rest or after more, and each time by a factor of two at least."""
    world, rested, run = World({"env.ta": small, "env.tb": None}), 0.0, 1
    for wide in kinds:
        world.clock.now += every
        cap, size = world.caps.of(query)["a"], large if wide else small
        world.records(cap, size, run=f"r{run}")
        world.output(cap, run=f"r{run}")
        if world.caps.due(query) is None:
            continue
        after = world.take(query, f"r{run}")["a"]
        assert after * 2 <= cap or (after >= cap * 2 and world.clock.now >= rested)
        if after < cap:
            rested = world.clock.now + 300
        run += 1
