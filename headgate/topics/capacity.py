"""Whether the drivers of all pipelines fit into this machine's memory together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from headgate.arrow.choice import record_lane, stateful_lane
from headgate.contract.frozen import FrozenContract
from headgate.contract.model import size
from headgate.topics.differences import Refusal

__all__ = ["capacity_refusals", "driver_memory", "machine_memory"]

_MB = 1024 * 1024
# Beside its heap a driver needs memory for code, threads and buffers (Spark's own rule: a tenth, at least
# 384 MB) and for its Python process.
_OVERHEAD = 384 * _MB
_OVERHEAD_SHARE = 0.1
_PYTHON = 200 * _MB
_WORKER = 160 * _MB  # of Python, one for each core, where records are decoded there
_ARROW_BATCH = 16 * _MB  # that a worker of the Arrow lane holds, beside a row group of each output


def driver_memory(contract: FrozenContract) -> int:
    """What one driver may come to hold, in bytes."""
    heap = size(contract.contract.job.memory)
    decoded = any(source.with_schema for source in contract.contract.sources.values())
    worker = _arrow_worker(contract) or (_WORKER if decoded else 0)
    overhead = max(_OVERHEAD, int(heap * _OVERHEAD_SHARE))
    return heap + overhead + _PYTHON + contract.contract.job.cores * worker


def _arrow_worker(contract: FrozenContract) -> int:
    writes = record_lane(contract).lane == "arrow"
    if not writes and all(
        stateful_lane(contract, name).lane != "arrow" for name in contract.stateful_outputs
    ):
        return 0
    from headgate.arrow.files import GROUP_BYTES

    written = contract.record_outputs if writes else []
    return _WORKER + _ARROW_BATCH + len(written) * GROUP_BYTES


def machine_memory(cgroup: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """The memory that processes here may use: the machine's, or the container's where that is less."""
    total = int(psutil.virtual_memory().total)
    try:
        limit = cgroup.read_text(encoding="utf-8").strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def capacity_refusals(
    contracts: Sequence[FrozenContract], applied: Mapping[str, FrozenContract], memory: int
) -> list[Refusal]:
    """Refuse contracts that need more than before when all drivers together would not fit."""
    after = {**applied, **{each.pipeline: each for each in contracts}}
    needed = _sum(after.values())
    if needed <= memory:
        return []
    told = ", ".join(f"{name} {driver_memory(each) // _MB:,} MB" for name, each in sorted(after.items()))
    return [
        Refusal(
            "does_not_fit",
            f"contract {each.pipeline}",
            each.pipeline,
            f"the drivers of all pipelines would need {needed // _MB:,} MB together, and this machine has "
            f"{memory // _MB:,} MB: {told}",
            "lower job.memory, or run the pipeline on another machine",
        )
        for each in contracts
        if driver_memory(each) > _sum(filter(None, [applied.get(each.pipeline)]))
    ]


def _sum(contracts: Iterable[FrozenContract]) -> int:
    return sum(driver_memory(each) for each in contracts)
