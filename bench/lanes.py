"""The lanes in turn, on the same topic: hand-written, in the JVM lane, and in the Arrow lane.

Windows are Spark's in either lane: what has one is how their records are read and screened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.dataset import Dataset
from bench.loader import load
from bench.place import Place
from bench.rates import spread
from bench.throughput import JOBS, Job, batch_size, headgate_rate, plain_rate

__all__ = ["LANES", "TARGETS", "compare_lanes", "jobs", "show"]

LANES = ("jvm", "arrow")
# What the Arrow lane is to reach against the hand-written job.
TARGETS = {"records": 2.5, "records-bad": 2.5, "windows": 1.5}


def compare_lanes(place: Place, job: Job, *, records: int, runs: int) -> dict[str, Any]:
    """Run all three `runs` times in turn; a result only if every run was exact."""
    dataset = Dataset(records, job.bad)
    load(place.settings("services"), job.topic, dataset)
    expected = dataset.expected()
    batch = batch_size(records)
    rates: dict[str, list[float]] = {"plain": [], **{lane: [] for lane in LANES}}
    for number in range(1, runs + 1):
        for side, found in rates.items():
            place.clear_run()
            if side == "plain":
                found.append(plain_rate(place, job, expected, records, batch))
            else:
                found.append(headgate_rate(place, job, expected, records, batch, lane=side))
            print(f"{job.name} run {number}: {side:<8} {found[-1]:>12,.0f} records/s", flush=True)
    sides = {side: spread(found) for side, found in rates.items()}
    return {
        "job": f"lanes-{job.name}",
        "records": records,
        "batch": batch,
        "bad": expected.bad,
        **{side: found.to_json() for side, found in sides.items()},
        **{f"{lane}_ratio": sides[lane].median / sides["plain"].median for lane in LANES},
        "target": TARGETS[job.name],
    }


def jobs(prefix: str) -> list[Job]:
    return [job for job in JOBS if job.name.startswith(prefix)]


def show(result: Mapping[str, Any]) -> str:
    """The line of a job: `ratio JOB arrow X.XX jvm X.XX`, and the three rates."""
    rates = " · ".join(f"{side} {result[side]['median']:,.0f}/s" for side in ("plain", *LANES))
    return (
        f"ratio {result['job']} arrow {result['arrow_ratio']:.2f} · jvm {result['jvm_ratio']:.2f} · {rates}"
    )
