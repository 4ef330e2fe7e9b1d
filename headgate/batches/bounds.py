"""What a contract allows a batch, and how it is said to Spark's Kafka source.

Spark bounds a batch by records alone (`maxOffsetsPerTrigger`), so bytes and time are made into records.
"""

from __future__ import annotations

from dataclasses import dataclass

from headgate.contract.model import Contract, Job, seconds, size

__all__ = ["Bounds", "batch_bytes", "bounds_of", "reader_options"]

# What a batch may hold by default, of the driver's heap: where a batch is kept for a second pass, its rows
# take about as much as its records did, and Spark's own half of the heap has room for two of them.
_SHARE_OF_MEMORY = 4
# All consumers of a driver together. Each holds one fetch that is read and one that is ahead of it.
_SHARE_OF_FETCHES, _FETCHES = 8, 2
# Kafka's own default is the most. Below the least there would be a request for every few records; a single
# record that is larger comes whole whatever is said here.
_LEAST_FETCH, _MOST_FETCH = 64 * 1024, 1024 * 1024
_MOST_POLLED = 500  # Kafka's own default


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one source may bring to one batch. `seconds` is how long such a batch may take."""

    bytes: int
    records: int
    seconds: float


def batch_bytes(job: Job) -> int:
    """Of keys and values of a batch together, unpacked."""
    if job.max_bytes_per_batch is not None:
        return size(job.max_bytes_per_batch)
    return size(job.memory) // _SHARE_OF_MEMORY


def bounds_of(contract: Contract) -> Bounds:
    """Of each source: they share the bytes of a batch alike. A batch that takes half of the freshness leaves
    the other half to the records that come while it runs."""
    job = contract.job
    return Bounds(
        bytes=max(1, batch_bytes(job) // len(contract.sources)),
        records=job.max_records_per_batch,
        seconds=max(seconds(job.trigger), seconds(contract.slo.freshness) / 2),
    )


def reader_options(contract: Contract, queries: int, cap: int) -> dict[str, str]:
    """Options of Spark's Kafka source for batches of at most `cap` records. Every one of the `queries` has a
    consumer for each partition."""
    consumers = queries * sum(source.partitions for source in contract.sources.values())
    room = size(contract.job.memory) // _SHARE_OF_FETCHES // _FETCHES // consumers
    fetch = min(max(room, _LEAST_FETCH), _MOST_FETCH)
    # A fetch is of packed bytes. What a consumer unpacks at once is bounded by records: by as many as there
    # are in a fetch when a batch of `cap` records has the bytes that it may have.
    polled = min(max(fetch * cap // bounds_of(contract).bytes, 1), _MOST_POLLED)
    return {
        "maxOffsetsPerTrigger": str(cap),
        "kafka.max.partition.fetch.bytes": str(fetch),
        "kafka.max.poll.records": str(polled),
    }
