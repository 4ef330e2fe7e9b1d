from __future__ import annotations

from typing import Any

import pytest
from contract_examples import contract_of

from headgate.batches.bounds import batch_bytes, bounds_of, reader_options
from headgate.contract.model import Contract, Job, size

MB = 1024 * 1024


def contract(sources: int = 1, partitions: int = 1, freshness: str = "60 seconds", **job: Any) -> Contract:
    columns = [{"name": "n", "type": "int"}]
    found = contract_of(
        {f"s{n}": {"topic": f"t{n}", "partitions": partitions, "columns": columns} for n in range(sources)},
        {"o": {"sql": "SELECT n FROM s0", "to": [{"delta": "o"}]}},
        job=job,
    )
    return found.model_copy(update={"slo": found.slo.model_copy(update={"freshness": freshness})})


@pytest.mark.parametrize(("text", "expected"), [("3k", 3072), ("512m", 512 * MB), ("2g", 2048 * MB)])
def test_a_size_is_a_number_and_a_unit(text, expected):
    assert size(text) == expected


def test_a_batch_has_a_quarter_of_the_memory_where_the_contract_says_nothing():
    assert batch_bytes(Job(memory="1g")) == 256 * MB
    assert batch_bytes(Job(memory="1g", max_bytes_per_batch="16m")) == 16 * MB


def test_sources_share_the_bytes_of_a_batch():
    assert bounds_of(contract(sources=4, max_bytes_per_batch="64m")).bytes == 16 * MB


@pytest.mark.parametrize(
    ("freshness", "trigger", "expected"),
    [("60 seconds", "2 seconds", 30), ("4 seconds", "2 seconds", 2), ("60 seconds", "10 minutes", 600)],
)
def test_a_batch_may_take_half_of_the_freshness_or_as_long_as_the_trigger(freshness, trigger, expected):
    assert bounds_of(contract(freshness=freshness, trigger=trigger)).seconds == expected


def fetches(found: Contract, queries: int, cap: int) -> tuple[int, int]:
    options = reader_options(found, queries, cap)
    assert options["maxOffsetsPerTrigger"] == str(cap)
    return int(options["kafka.max.partition.fetch.bytes"]), int(options["kafka.max.poll.records"])


@pytest.mark.parametrize("partitions", [1, 16, 64, 256, 1_000])
@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("memory", ["512m", "1g", "4g"])
def test_what_all_consumers_fetch_is_a_small_part_of_the_memory(partitions, queries, memory):
    fetch, _ = fetches(contract(partitions=partitions, memory=memory), queries, 1_000)
    held = 2 * fetch * partitions * queries
    assert 64 * 1024 <= fetch <= MB
    assert held <= size(memory) // 8 or fetch == 64 * 1024


def test_few_partitions_are_fetched_as_kafka_would():
    assert fetches(contract(partitions=4, memory="1g"), 1, 500_000) == (MB, 500)


@pytest.mark.parametrize("record_bytes", [300, 2_048, 50_000, MB, 5 * MB])
@pytest.mark.parametrize("partitions", [1, 64, 1_000])
def test_a_poll_unpacks_no_more_than_a_fetch_or_one_record(record_bytes, partitions):
    found = contract(partitions=partitions, memory="1g")
    fetch, polled = fetches(found, 1, max(1, 256 * MB // record_bytes))
    assert polled == 1 or polled * record_bytes <= fetch
