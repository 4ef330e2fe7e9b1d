from __future__ import annotations

from typing import Any

import pytest
from contract_examples import contract_of

from headgate.batches.bounds import batch_bytes, bounds_of, heap_bytes, reader_options
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
    assert batch_bytes(Job(memory="1g"), "local") == 256 * MB
    assert batch_bytes(Job(memory="1g", max_bytes_per_batch="16m"), "local") == 16 * MB


@pytest.mark.parametrize(
    ("told", "expected"),
    [(None, 1024), ("2g", 2048), ("512M", 512), ("3gb", 3072), (768, 768), ("1024k", 1), ("much", 1024)],
)
def test_on_a_cluster_the_memory_is_that_of_one_executor(told, expected):
    job = Job(memory="8g", spark={} if told is None else {"spark.executor.memory": told})
    assert heap_bytes(job, "spark://host:7077") == expected * MB
    assert batch_bytes(job, "spark://host:7077") == expected * MB // 4
    assert heap_bytes(job, "local") == 8192 * MB


def test_sources_share_the_bytes_of_a_batch():
    assert bounds_of(contract(sources=4, max_bytes_per_batch="64m"), "local").bytes == 16 * MB


@pytest.mark.parametrize(
    ("freshness", "trigger", "expected"),
    [("60 seconds", "2 seconds", 30), ("4 seconds", "2 seconds", 2), ("60 seconds", "10 minutes", 600)],
)
def test_a_batch_may_take_half_of_the_freshness_or_as_long_as_the_trigger(freshness, trigger, expected):
    assert bounds_of(contract(freshness=freshness, trigger=trigger), "local").seconds == expected


def fetches(found: Contract, queries: int, cap: int, master: str = "local") -> tuple[int, int]:
    options = reader_options(found, "s0", queries, cap, master)
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


def test_few_partitions_are_fetched_as_kafka_would_and_polled_in_large_pieces():
    assert fetches(contract(partitions=4, memory="1g"), 1, 500_000) == (MB, 20_000)
    assert fetches(contract(partitions=4, memory="1g"), 4, 500_000) == (MB, 7_812)
    assert fetches(contract(partitions=64, memory="1g"), 1, 500_000) == (MB, 1_953)


@pytest.mark.parametrize("record_bytes", [300, 2_048, 50_000, MB, 5 * MB])
@pytest.mark.parametrize(("partitions", "queries"), [(1, 1), (64, 1), (64, 4), (1_000, 1)])
def test_what_all_consumers_unpack_at_once_is_a_small_part_of_the_memory(record_bytes, partitions, queries):
    found = contract(partitions=partitions, memory="1g")
    _, polled = fetches(found, queries, max(1, 256 * MB // record_bytes))
    assert polled == 1 or polled * record_bytes * partitions * queries <= 64 * MB


def test_a_fetch_has_room_for_what_the_contract_has_the_broker_wait_for():
    """A broker would hold each answer back for the whole of `fetch.max.wait.ms`."""
    found = contract(partitions=256, memory="1g")
    source = found.sources["s0"].model_copy(update={"options": {"kafka.fetch.min.bytes": 512 * 1024}})
    asked = found.model_copy(update={"sources": {"s0": source}})
    assert fetches(found, 4, 1_000)[0] < 512 * 1024
    assert fetches(asked, 4, 1_000)[0] == 512 * 1024


def test_on_a_cluster_an_executor_has_all_consumers_at_worst():
    found = contract(partitions=64, memory="8g")
    assert fetches(found, 2, 100_000) == (MB, 195)
    assert fetches(found, 2, 100_000, "spark://host:7077") == (512 * 1024, 195)


@pytest.mark.parametrize("option", ["minPartitions", "maxRecordsPerPartition"])
def test_where_a_partition_has_several_tasks_a_poll_brings_what_it_does_by_kafkas_default(option):
    found = contract(partitions=1, memory="1g")
    source = found.sources["s0"].model_copy(update={"options": {option: 8}})
    assert fetches(found.model_copy(update={"sources": {"s0": source}}), 1, 500_000)[1] == 500
