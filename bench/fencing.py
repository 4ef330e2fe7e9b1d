"""What fencing and ownership cost a stream that has plenty to do.

With them off a run differs by less than two runs differ anyway. So the time itself is taken that a driver
spends on looking at its claim and on reporting, in all its threads, and set against the time of the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from bench.dataset import Expected
from bench.lanes import LANES
from bench.loader import load
from bench.place import Place
from bench.rates import Steady, spread
from bench.stream import driver
from bench.throughput import JOBS, Job, batch_size, headgate_part
from bench.timed_claim import FILE

__all__ = ["measure", "share"]

TARGET = 0.03
_LANES = {"jvm": "JVM", "arrow": "Arrow"}
_JOB = next(job for job in JOBS if job.name == "records")


def measure(place: Place, records: int, runs: int) -> Iterator[dict[str, Any]]:
    dataset = _JOB.dataset(records)
    load(place.settings("services"), _JOB.topic, dataset)
    expected = dataset.expected()
    for lane in LANES:
        found = []
        for number in range(1, runs + 1):
            place.clear_run()
            found.append(_one(place, _JOB, expected, lane, batch_size(records)))
            print(f"fencing run {number}: {lane} lane {found[-1]:.3%} of the time", flush=True)
        yield {
            "job": f"fencing-{lane}",
            "title": f"records, {_LANES[lane]} lane",
            "records": records,
            "share": spread(found).to_json(),
            "target": TARGET,
        }


def _one(place: Place, job: Job, expected: Expected, lane: str, batch: int) -> float:
    file = place.root / "claim-times.json"
    run = partial(driver, module="bench.timed_claim", extra={FILE: str(file)})
    steady = headgate_part(place, job, expected, batch, run=run, lane=lane)
    return share(json.loads(file.read_text(encoding="utf-8")), steady)


def share(times: Sequence[Sequence[float]], steady: Steady) -> float:
    """Of the time of a steady part, what these (moment of the end, seconds) take together."""
    within = (seconds for at, seconds in times if steady.begun < at <= steady.ended)
    return sum(within) / (steady.ended - steady.begun)
