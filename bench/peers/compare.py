"""headgate and PyFlink in turn, on the same topic: records and ten-second windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bench.dataset import Expected
from bench.gate import check_records, check_windows, read_parquet
from bench.loader import load
from bench.peers.environment import find_flink, locked_versions
from bench.peers.flink_process import run_flink
from bench.peers.hotspots import read_recording, recording
from bench.peers.progress import checkpoints, steady_between
from bench.place import Place
from bench.processor import between, watching
from bench.rates import Steady, spread
from bench.throughput import JOBS, MEMORY, Job, batch_size, headgate_part

__all__ = ["MODULES", "TARGETS", "interval_ms", "measure", "show"]

SIDES = ("flink", "headgate")
MODULES = {"records": "bench.peers.flink_records", "windows": "bench.peers.flink_windows"}
# Seconds after which each has its first batch behind it, in a run of 16 million that has as long still to go.
_PAST_START = {"flink": 20, "headgate": 40}
# What headgate is to reach against PyFlink.
TARGETS = {"records": 0.85, "windows": 1.0}


def measure(place: Place, *, records: int, runs: int) -> Iterator[dict[str, Any]]:
    find_flink()  # before anything takes time
    for job in JOBS:
        if job.name in MODULES:
            yield _compare(place, job, records=records, runs=runs)


def _compare(place: Place, job: Job, *, records: int, runs: int) -> dict[str, Any]:
    """Run both sides `runs` times in turn; a result only if every run was exact."""
    dataset = job.dataset(records)
    load(place.settings("services"), job.topic, dataset)
    expected = dataset.expected()
    batch = batch_size(records)
    rates: dict[str, list[float]] = {side: [] for side in SIDES}
    spent: dict[str, list[Mapping[str, float]]] = {side: [] for side in SIDES}
    for number in range(1, runs + 1):
        for side in SIDES:
            place.clear_run()
            with watching() as watch:
                part = _run(side, place, job, expected, batch=batch)
            rates[side].append(part.rate)
            spent[side].append(_per_million(between(watch.samples, part.begun, part.ended), part))
            print(f"{job.name} run {number}: {side:<8} {part.rate:>12,.0f} records/s", flush=True)
    sides = {side: spread(found) for side, found in rates.items()}
    ratio = sides["headgate"].median / sides["flink"].median
    missed = ratio < TARGETS[job.name]
    result = {
        "job": f"peers-{job.name}",
        "records": records,
        "interval": interval_ms(batch) / 1000,
        **{side: found.to_json() for side, found in sides.items()},
        "ratio": ratio,
        "target": TARGETS[job.name],
        "processor": {side: _mean(found) for side, found in spent.items()},
        "hotspots": {side: _hotspots(side, place, job, expected, batch=batch) for side in SIDES if missed},
        "peer": locked_versions(),
    }
    print(show(result), flush=True)
    return result


def _run(side: str, place: Place, job: Job, expected: Expected, *, batch: int) -> Steady:
    if side == "headgate":
        return headgate_part(place, job, expected, batch)
    records = expected.good + expected.bad
    done = run_flink(place, MODULES[job.name], job.topic, interval_ms=interval_ms(batch), memory=MEMORY)
    if job.windowed:
        check_windows(done.table, expected, read_parquet, watermark_ms=None)
    else:
        check_records(done.table, expected, read_parquet)
    return steady_between(checkpoints(done.sights), first=batch, total=records)


def _hotspots(side: str, place: Place, job: Job, expected: Expected, *, batch: int) -> dict[str, float]:
    """Of one more run."""
    place.clear_run()
    file = place.root / "profile" / f"{job.name}-{side}.jfr"
    with recording(file, _PAST_START[side]):
        _run(side, place, job, expected, batch=batch)
    return read_recording(file)


def interval_ms(batch: int) -> int:
    """Between checkpoints: five seconds, about as long as the others take for a batch of a million; a trial
    with smaller batches has shorter ones."""
    return max(1000, 5000 * batch // 1_000_000)


def _per_million(spent: Mapping[str, float], part: Steady) -> dict[str, float]:
    return {kind: seconds * 1e6 / part.records for kind, seconds in spent.items()}


def _mean(runs: list[Mapping[str, float]]) -> dict[str, float]:
    kinds = {kind for run in runs for kind in run}
    return {kind: sum(run.get(kind, 0.0) for run in runs) / len(runs) for kind in sorted(kinds)}


def show(result: Mapping[str, Any]) -> str:
    """The line of a job: `ratio JOB X.XX`, and both sides."""
    rates = " · ".join(f"{side} {result[side]['median']:,.0f}/s" for side in SIDES)
    return f"ratio {result['job']} {result['ratio']:.2f} · {rates}"
