"""Start to first batch: hand-written, and by headgate with and without the class-data archive."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.baseline import run_plain
from bench.dataset import Dataset
from bench.loader import load
from bench.place import CHECKOUT, Place
from bench.rates import read_commits, spread
from bench.stream import apply, driver, spare_driver

__all__ = ["measure"]

_TOPIC = "bench_small"
_RECORDS = 40_000
_TARGET = 12.0


def measure(place: Place, runs: int) -> Iterator[dict[str, Any]]:
    """From the start of the process until each query has committed its first batch, on a new checkpoint."""
    load(place.settings("services"), _TOPIC, Dataset(_RECORDS))
    took = _make_archive(place)
    if took is not None:
        yield _result("archive", "making the class-data archive, once per machine", [took], None)
    plain = [_plain_start(place) for _ in range(runs)]
    yield _result("plain", "start to first batch, plain PySpark, append to Delta", plain, None)
    for pipeline, what in (("bench-records", "one query"), ("bench-windows", "two queries, one stateful")):
        for archive in (True, False):
            seconds = [_start(place, pipeline, archive) for _ in range(runs)]
            having = "with" if archive else "without"
            job = f"{pipeline}-{having}"
            target = _TARGET if archive and pipeline == "bench-records" else None
            yield _result(job, f"start to first batch, {what}, {having} archive", seconds, target)
        seconds = [_start_of_spare(place, pipeline) for _ in range(runs)]
        title = f"start to first batch, {what}, a spare driver in reserve"
        yield _result(f"{pipeline}-spare", title, seconds, _TARGET)


def _make_archive(place: Place) -> float | None:
    """Seconds it took, None when it was there."""
    place.clear_run()
    if list(place.settings().jars_dir.glob("classes-*.jsa")):
        return None
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "spark.warm"],
        cwd=CHECKOUT,
        env=place.environ("run"),
        check=True,
        capture_output=True,
    )
    return time.monotonic() - begun


def _plain_start(place: Place) -> float:
    place.clear_run()
    ran = run_plain(place, "bench.plain_records", _TOPIC, batch=_RECORDS, memory="1g")
    return read_commits(ran.checkpoint).points[0][0] - ran.started


def _start(place: Place, pipeline: str, archive: bool) -> float:
    place.clear_run()
    frozen = apply(place, pipeline, {"sources.readings.topic": _TOPIC, "job.memory": "1g"})
    extra = {} if archive else {"HEADGATE_SPARK_CLASS_DATA_ARCHIVE": "false"}
    with driver(place, frozen, extra=extra) as running:
        running.wait_committed(_RECORDS, 300)
        first = [read_commits(query).points[0][0] for query in running.queries()]
    return max(first) - running.started


def _start_of_spare(place: Place, pipeline: str) -> float:
    place.clear_run()
    frozen = apply(place, pipeline, {"sources.readings.topic": _TOPIC, "job.memory": "1g"})
    with spare_driver(place, frozen) as running:
        running.wait_committed(_RECORDS, 300)
        first = [read_commits(query).points[0][0] for query in running.queries()]
    return max(first) - running.started


def _result(job: str, title: str, seconds: list[float], target: float | None) -> dict[str, Any]:
    found = spread(seconds)
    print(f"start {job} {found.median:.1f} s ({found.least:.1f}–{found.most:.1f})", flush=True)
    return {"job": job, "title": title, "seconds": found.to_json(), "target": target}
