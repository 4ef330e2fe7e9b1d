"""What a contract allows a batch, and how it is said to Spark's Kafka source.

Spark bounds a batch by records alone (`maxOffsetsPerTrigger`), so bytes and time are made into records.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from headgate.contract.model import Contract, Job, seconds, size

__all__ = ["Bounds", "batch_bytes", "bounds_of", "heap_bytes", "reader_options"]

# What a batch may hold by default, of the heap that it is in: where a batch is kept for a second pass, its
# rows take about as much as its records did, and Spark's own half of the heap has room for two of them.
_SHARE_OF_MEMORY = 4
# All consumers of a driver together. Each holds one fetch that is read and one that is ahead of it.
_SHARE_OF_FETCHES, _FETCHES = 8, 2
# Kafka's own default is the most. Below the least there would be a request for every few records; a single
# record that is larger comes whole whatever is said here.
_LEAST_FETCH, _MOST_FETCH = 64 * 1024, 1024 * 1024
# After each poll Spark's KafkaDataConsumer seeks, and asks the broker for both ends of the partition. With
# the 500 records of Kafka's own default that is a part of what it costs to read small ones, and with these it
# hardly is: `python -m bench lanes` measures the whole.
_MOST_POLLED = 20_000
# Kafka's default, where a contract has Spark read a partition by several tasks: how many consumers there are
# is then not known from the partitions.
_MOST_POLLED_SPLIT, _SPLITTING = 500, frozenset({"minPartitions", "maxRecordsPerPartition"})

# Spark's own default of an executor, and its units; a number without one is of MiB.
_EXECUTOR_MEMORY = "1g"
_SIZE = re.compile(r"(\d+)([kmgt]?)b?")
_UNITS = {"k": 1024, "": 1024**2, "m": 1024**2, "g": 1024**3, "t": 1024**4}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one source may bring to one batch. `seconds` is how long such a batch may take."""

    bytes: int
    records: int
    seconds: float


def heap_bytes(job: Job, master: str) -> int:
    """The heap that a batch is in: the driver's own, or an executor's where the work is done on a cluster.
    How many of those there are is the cluster's to say and may change, so one is what can be counted on."""
    if master == "local":
        return size(job.memory)
    told = str(job.spark.get("spark.executor.memory", _EXECUTOR_MEMORY)).strip().lower()
    # What Spark cannot read either, it says when the session begins.
    found = _SIZE.fullmatch(told) or _SIZE.fullmatch(_EXECUTOR_MEMORY)
    assert found is not None, "the default is a size"
    return int(found[1]) * _UNITS[found[2]]


def batch_bytes(job: Job, master: str) -> int:
    """Of keys and values of a batch together, unpacked."""
    if job.max_bytes_per_batch is not None:
        return size(job.max_bytes_per_batch)
    return heap_bytes(job, master) // _SHARE_OF_MEMORY


def bounds_of(contract: Contract, master: str) -> Bounds:
    """Of each source: they share the bytes of a batch alike. A batch that takes half of the freshness leaves
    the other half to the records that come while it runs."""
    job = contract.job
    return Bounds(
        bytes=max(1, batch_bytes(job, master) // len(contract.sources)),
        records=job.max_records_per_batch,
        seconds=max(seconds(job.trigger), seconds(contract.slo.freshness) / 2),
    )


def reader_options(contract: Contract, name: str, queries: int, cap: int, master: str) -> dict[str, str]:
    """Options of Spark's Kafka source for batches of at most `cap` records of a source. Every one of the
    `queries` has a consumer for each partition."""
    consumers = queries * sum(source.partitions for source in contract.sources.values())
    room = heap_bytes(contract.job, master) // _SHARE_OF_FETCHES // _FETCHES // consumers
    options = contract.sources[name].options
    # A broker holds an answer back until it has `fetch.min.bytes`, and counts no more than the partition's.
    least = max(_LEAST_FETCH, int(options.get("kafka.fetch.min.bytes", 0)))
    fetch = max(min(room, _MOST_FETCH), least)
    # A fetch is of packed bytes. What a consumer unpacks at once is bounded by records: by as many as it has
    # room for when a batch of `cap` records has the bytes that it may have.
    split = _SPLITTING & options.keys()
    most = _MOST_POLLED_SPLIT if split else _MOST_POLLED
    polled = min(max(room * cap // bounds_of(contract, master).bytes, 1), most)
    return {
        "maxOffsetsPerTrigger": str(cap),
        "kafka.max.partition.fetch.bytes": str(fetch),
        "kafka.max.poll.records": str(polled),
    }
