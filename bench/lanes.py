"""The lanes in turn, on the same topic: hand-written, in the JVM lane, and in the Arrow lane where it can be.

Windows are Spark's in either lane: what has one is how their records are read and screened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.dataset import Expected
from bench.loader import load
from bench.place import Place
from bench.processor import Watch, between, watching
from bench.rates import Steady, spread
from bench.throughput import JOBS, Job, batch_size, headgate_part, plain_part

__all__ = ["LANES", "LANE_JOBS", "Side", "compare_lanes", "show"]

LANES = ("jvm", "arrow")
_ALL = (
    *JOBS,
    Job("records-worse", "bench-records", "bench_worse", arrow_target=1.5, bad_every=100),
    Job("windows-bad", "bench-windows", "bench_bad", arrow_target=1.5, bad_every=10_000),
    Job("windows-worse", "bench-windows", "bench_worse", arrow_target=1.5, bad_every=100),
    Job("avro", "bench-avro", "bench_avro", form="avro"),
    Job("protobuf", "bench-protobuf", "bench_protobuf", form="protobuf"),
    Job("wide", "bench-wide", "bench_wide", form="json-wide", share=8),
)
# By the part that runs them.
LANE_JOBS: Mapping[str, tuple[Job, ...]] = {
    "lanes": tuple(job for job in _ALL if job.pipeline == "bench-records"),
    "lanes-windows": tuple(job for job in _ALL if job.windowed),
    "lanes-formats": tuple(job for job in _ALL if job.form in {"avro", "protobuf"}),
    "lanes-wide": tuple(job for job in _ALL if job.form == "json-wide"),
}


@dataclass(slots=True)
class Side:
    """What was seen of one of the three, run by run."""

    rates: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)

    def note(self, part: Steady, watch: Watch) -> None:
        spent = between(watch.samples, part.begun, part.ended)
        self.rates.append(part.rate)
        self.processor.append(sum(spent.values()) * 1e6 / part.records)
        self.resident.append(watch.resident)

    def to_json(self) -> Mapping[str, object]:
        """Rates; processor seconds per million records; most bytes of memory."""
        return {
            **spread(self.rates).to_json(),
            "processor": sum(self.processor) / len(self.processor),
            "resident": max(self.resident),
        }


def compare_lanes(place: Place, job: Job, *, records: int, runs: int) -> dict[str, Any]:
    """Run all three `runs` times in turn; a result only if every run was exact."""
    dataset = job.dataset(records)
    load(place.settings("services"), job.topic, dataset)
    readable, good = dataset.expected(screened=False), dataset.expected()
    batch = batch_size(dataset.records)
    sides = {name: Side() for name in ("plain", *LANES)}
    for number in range(1, runs + 1):
        for name, side in sides.items():
            place.clear_run()
            with watching() as watch:
                part = _run(place, job, name, readable if name == "plain" else good, batch)
            side.note(part, watch)
            print(f"{job.name} run {number}: {name:<8} {side.rates[-1]:>12,.0f} records/s", flush=True)
    rates = {name: spread(side.rates).median for name, side in sides.items()}
    return {
        "job": f"lanes-{job.name}",
        "records": dataset.records,
        "batch": batch,
        "bad": good.bad,
        **{name: side.to_json() for name, side in sides.items()},
        **{f"{lane}_ratio": rates[lane] / rates["plain"] for lane in LANES},
        "target": job.arrow_target,
    }


def _run(place: Place, job: Job, name: str, expected: Expected, batch: int) -> Steady:
    if name == "plain":
        return plain_part(place, job, expected, batch)
    return headgate_part(place, job, expected, batch, lane=name)


def show(result: Mapping[str, Any]) -> str:
    """The line of a job: `ratio JOB arrow X.XX · jvm X.XX`, and the rates of those that it has."""
    lanes = [lane for lane in ("arrow", "jvm") if lane in result]
    ratios = " · ".join(f"{lane} {result[f'{lane}_ratio']:.2f}" for lane in lanes)
    rates = " · ".join(f"{side} {result[side]['median']:,.0f}/s" for side in ("plain", *reversed(lanes)))
    return f"ratio {result['job']} {ratios} · {rates}"
