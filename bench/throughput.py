"""Records and windows: hand-written and by headgate in turn, on the same topic, with the same settings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from bench.baseline import run_plain
from bench.dataset import PARTITIONS, Dataset, Expected
from bench.gate import check_plain_records, check_quarantine, check_records, check_windows
from bench.loader import load
from bench.place import Place
from bench.rates import Steady, read_commits, spread, steady_part
from bench.stream import Driver, apply, driver

__all__ = [
    "JOBS",
    "MEMORY",
    "Job",
    "batch_size",
    "compare",
    "headgate_part",
    "plain_part",
    "show",
]

MEMORY = "3g"
MAX_BATCH = 1_000_000
_DEADLINE = 3600.0


@dataclass(frozen=True, slots=True)
class Job:
    """One comparison. `target`: the ratio to reach, of the contract as it is; `arrow_target`: of the Arrow
    lane. `share`: of the records of a run it takes one in so many, where one takes as long as so many others.
    """

    name: str
    pipeline: str
    topic: str
    target: float | None = None
    arrow_target: float | None = None
    bad_every: int = 0
    form: str = "json"
    share: int = 1

    @property
    def windowed(self) -> bool:
        return self.pipeline == "bench-windows"

    @property
    def module(self) -> str:
        return "bench.plain_windows" if self.windowed else "bench.plain_records"

    def dataset(self, records: int) -> Dataset:
        per_partition = records // self.share // PARTITIONS
        return Dataset(per_partition * PARTITIONS, self.bad_every, self.form)


JOBS = (
    Job("records", "bench-records", "bench_clean", 0.8, 2.5),
    Job("records-bad", "bench-records", "bench_bad", 0.65, 2.5, bad_every=10_000),
    Job("windows", "bench-windows", "bench_clean", 0.6, 1.5),
)


def compare(place: Place, job: Job, *, records: int, runs: int) -> dict[str, Any]:
    """Run both sides `runs` times in turn; a result only if every run was exact."""
    dataset = job.dataset(records)
    load(place.settings("services"), job.topic, dataset)
    expected, readable = dataset.expected(), dataset.expected(screened=False)
    batch = batch_size(records)
    plain, ours = [], []
    for number in range(1, runs + 1):
        place.clear_run()
        plain.append(plain_part(place, job, readable, batch).rate)
        print(f"{job.name} run {number}: plain    {plain[-1]:>12,.0f} records/s", flush=True)
        place.clear_run()
        ours.append(headgate_part(place, job, expected, batch).rate)
        print(f"{job.name} run {number}: headgate {ours[-1]:>12,.0f} records/s", flush=True)
    a, b = spread(plain), spread(ours)
    return {
        "job": job.name,
        "records": records,
        "batch": batch,
        "bad": expected.bad,
        "plain": a.to_json(),
        "headgate": b.to_json(),
        "ratio": b.median / a.median,
        "target": job.target,
    }


def batch_size(records: int) -> int:
    """A million per batch; a trial with fewer records still has eight batches."""
    return max(1000, min(MAX_BATCH, records // 8))


def plain_part(place: Place, job: Job, expected: Expected, batch: int) -> Steady:
    """One run of the hand-written job, exact by what an unscreened one can know; the times its rate is of."""
    records = expected.good + expected.bad
    ran = run_plain(place, job.module, job.topic, job.form, batch=batch, memory=MEMORY)
    if job.windowed:
        check_windows(ran.table, expected)
    else:
        check_plain_records(ran.table, expected)
    return steady_part([read_commits(ran.checkpoint)], records)


def headgate_part(
    place: Place,
    job: Job,
    expected: Expected,
    batch: int,
    *,
    run: Callable[..., AbstractContextManager[Driver]] = driver,
    lane: str | None = None,
) -> Steady:
    """One run by headgate, exact. Without a `lane` it is that of the contract."""
    records = expected.good + expected.bad
    changes = {
        "sources.readings.topic": job.topic,
        "job.max_records_per_batch": batch,
        "job.memory": MEMORY,
        **({"job.lane": lane} if lane else {}),
        **({"outputs.windows.lane": lane} if lane and job.windowed else {}),
    }
    frozen = apply(place, job.pipeline, changes)
    with run(place, frozen) as running:
        running.wait_committed(records, _DEADLINE)
        running.wait_settled()
        tables = {name: running.table(name) for name in ("kept", "windows", "_quarantine")}
        queries = running.queries()
    check_quarantine(tables["_quarantine"], expected)
    if job.windowed:
        check_windows(tables["windows"], expected)
    else:
        check_records(tables["kept"], expected)
    return steady_part([read_commits(query) for query in queries], records)


def show(result: dict[str, Any]) -> str:
    """The line of a job: `ratio JOB X.XX`, and both sides."""
    sides = [
        f"{side} {result[side]['median']:,.0f}/s ({result[side]['least']:,.0f}–{result[side]['most']:,.0f})"
        for side in ("plain", "headgate")
    ]
    return f"ratio {result['job']} {result['ratio']:.2f} · {' · '.join(sides)}"
