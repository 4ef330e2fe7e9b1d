from __future__ import annotations

from contract_examples import contract_of

from headgate.batches.cap import AGREE
from headgate.batches.caps import BatchCaps, Ended
from headgate.checkpoints.layout import RECORDS
from headgate.contract.frozen import ResolvedOutput, freeze

MB = 1024 * 1024


def caps(sampled: dict[str, float] | None = None) -> BatchCaps:
    """Of two sources and a stateful output; each source has 32 MB of a batch."""
    columns = [{"name": "n", "type": "int"}]
    frozen = freeze(
        contract_of(
            {"a": {"topic": "ta", "columns": columns}, "b": {"topic": "tb", "columns": columns}},
            {"o": {"sql": "SELECT n FROM a", "to": [{"delta": "o"}]}},
            job={"max_bytes_per_batch": "64m", "max_records_per_batch": 100_000},
        ),
        topics={"a": "env.ta", "b": "env.tb"},
        replication=1,
        outputs={"o": ResolvedOutput(True, {"type": "struct", "fields": []})},
        env="local",
        headgate_version="0",
    )
    made = BatchCaps(frozen)
    made.sampled(sampled or {})
    return made


def test_every_query_starts_with_what_was_sampled_of_each_topic():
    found = caps({"env.ta": 1.0 * MB})
    assert found.of(RECORDS) == found.of("o") == {"a": 32, "b": 100_000}


def test_what_the_record_query_measures_counts_for_the_other_queries_too():
    found = caps()
    assert found.ended("o", {"env.ta": 400}, 1.0) == Ended(None, 200_000)
    found.measured("a", 500, 500 * MB)
    assert found.ended("o", {"env.ta": 400}, 1.0) == Ended(400 * MB, 200_000)
    assert found.due("o") == {"a": 32, "b": 100_000}
    assert found.due(RECORDS) is None, "it has committed nothing yet"


def test_a_cap_that_is_taken_is_judged_by_its_own_batches():
    found = caps()
    found.measured("a", 500, 500 * MB)
    found.ended(RECORDS, {"env.ta": 500}, 1.0)
    due = found.due(RECORDS)
    assert due is not None
    found.take(RECORDS, due)
    assert found.of(RECORDS) == {"a": 32, "b": 100_000}
    assert found.of("o") == {"a": 100_000, "b": 100_000}
    assert found.due(RECORDS) is None
    found.ended(RECORDS, {"env.ta": 500}, 1.0)  # planned before, and run again
    assert found.due(RECORDS) is None


def test_one_odd_record_among_many_changes_nothing_for_long():
    found = caps({"env.ta": 1_000.0})
    before = found.of(RECORDS)
    found.measured("a", 10_000, 10_000_000)
    for size in (1 * MB, 1_000, 1_000, 1_000, 1 * MB, 1_000):
        found.measured("a", 1, size)
        found.ended(RECORDS, {"env.ta": 1}, 0.1)
    assert found.due(RECORDS) is None
    assert found.of(RECORDS) == before


def test_a_batch_of_large_records_is_known_for_what_it_is_after_any_number_of_small_ones():
    found = caps({"env.ta": 1_000.0})
    found.measured("a", 90_000, 90_000_000)
    found.measured("a", 100, 100 * MB)
    assert found.ended(RECORDS, {"env.ta": 100}, 1.0).bytes == 100 * MB
    assert found.due(RECORDS) == {"a": 32, "b": 100_000}


def test_the_bytes_of_another_batch_are_not_taken_for_those_of_one():
    found = caps({"env.ta": 1_000.0})
    found.measured("a", 10_000, 10_000_000)
    found.measured("a", 1, 1 * MB)  # measured before the batch ahead of it was told
    ended = found.ended(RECORDS, {"env.ta": 10_000}, 1.0).bytes
    assert ended is not None
    assert 10_000_000 < ended < 15_000_000


def test_batches_without_records_say_nothing():
    found = caps({"env.ta": 1_000.0})
    for _ in range(AGREE):
        found.measured("a", 0, 0)
        assert found.ended(RECORDS, {"env.ta": 0}, 0.1).bytes == 0
    assert found.due(RECORDS) is None
