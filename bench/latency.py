"""From the moment a record is due to be sent until a result that contains it can be read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from redis import Redis

from bench.dataset import FIRST_SEQ, PARTITIONS
from bench.live import fresh_topic, paced
from bench.pace import read_sent
from bench.place import Place
from bench.stream import apply, driver
from bench.waiting import wait_for

__all__ = ["measure", "percentiles", "readable", "sight", "waits"]

RATE = 5_000  # where there is one
# A JVM of two cores still gets faster in its third minute: what is measured is a stream that has run.
WARM_SECONDS = 180
TRIGGER = "500 milliseconds"
_LOOK_SECONDS = 0.02
_AFTER_SECONDS = 2.0
_BEHIND = 0.5  # a producer that was later than this did not hold the rate

_BY_SECOND = (
    "SELECT window.start AS second, _partition AS part, max(seq) AS newest, count(*) AS readings "
    "FROM readings GROUP BY window(ts, '1 second'), _partition"
)
_UPSERT = {"sql": _BY_SECOND, "mode": "update", "key": ["second", "part"]}
_APPEND = {"sql": "SELECT seq AS newest, _partition AS part, device, ts, value FROM readings"}
_TITLES = {
    "redis": "to Redis alone",
    "append": "Delta append",
    "append-jvm": "Delta append, JVM lane",
    "upsert": "Delta upsert",
}
_OUTPUTS: Mapping[str, Mapping[str, Any]] = {
    "redis": {**_UPSERT, "to": [{"redis": "bench_live"}]},
    "append": {**_APPEND, "to": [{"delta": "newest"}]},
    "append-jvm": {**_APPEND, "lane": "jvm", "to": [{"delta": "newest"}]},
    "upsert": {**_UPSERT, "to": [{"delta": "newest"}]},
}


@dataclass(frozen=True, slots=True)
class Sight:
    """At this moment the newest readable record number of each partition was at least this."""

    at: float
    newest: Mapping[int, int]


# (output, records per second): p95 to reach, in seconds.
_MEASURED = {
    ("redis", RATE): 1.5,
    ("append", 1_000): None,
    ("append", RATE): 1.0,
    ("append", 50_000): None,
    ("append-jvm", RATE): None,
    ("upsert", RATE): None,
}


def measure(place: Place, seconds: int) -> Iterator[dict[str, Any]]:
    for (kind, rate), target in _MEASURED.items():
        yield _measure(place, kind, rate, seconds) | ({"target": target} if target else {})


def _measure(place: Place, kind: str, rate: int, seconds: int) -> dict[str, Any]:
    fresh_topic(place)
    changes = {"outputs": {"newest": dict(_OUTPUTS[kind])}, "job.trigger": TRIGGER}
    frozen = apply(place, "bench-live", changes)
    with driver(place, frozen) as running:
        running.wait_running()
        look = _redis_reader(place) if kind == "redis" else _delta_reader(running.table("newest"))
        with _Watch(look) as watch:
            with paced(place, rate, WARM_SECONDS + seconds + 60) as file:
                begun = time.time() + WARM_SECONDS
                time.sleep(WARM_SECONDS + seconds)
                ended = time.time()
                # Redis shows the newest second alone: there is one in which every partition has records.
                time.sleep(_AFTER_SECONDS)
            running.refuse_ended()
            sent = read_sent(file)
            there = lambda: readable(sent.at, watch.sights(since=ended), ended)  # noqa: E731
            wait_for(there, 60, f"every record of the measured time readable ({kind})")
    if sent.behind > _BEHIND:
        raise SystemExit(f"error: the producer was {sent.behind:.1f} s behind: no {rate:,} records/s")
    times = waits(sent.at, watch.sights(), begun, ended)
    job = kind if rate == RATE else f"{kind}-{rate}"
    result = {"job": job, "title": _TITLES[kind], "rate": rate, "trigger": TRIGGER}
    result |= {"warm": WARM_SECONDS, **percentiles(times)}
    told = " · ".join(f"{name} {result[name]:.2f} s" for name in ("p50", "p95", "p99"))
    print(f"latency {kind} at {rate:,}/s {told}", flush=True)
    return result


def sight(at: float, newest: Mapping[int, int]) -> Sight:
    """Of the newest `seq` of each partition."""
    return Sight(at, {part: seq - FIRST_SEQ for part, seq in newest.items()})


def readable(sent: npt.NDArray[np.float64], sights: Sequence[Sight], ended: float) -> bool:
    """Whether every record sent before `ended` could be read by the sights."""
    numbers = np.flatnonzero(sent < ended)
    return all(
        any(sight.newest.get(part, -1) >= mine.max() for sight in sights)
        for part in range(PARTITIONS)
        if (mine := numbers[numbers % PARTITIONS == part]).size
    )


def waits(
    sent: npt.NDArray[np.float64], sights: Sequence[Sight], begun: float, ended: float
) -> npt.NDArray[np.float64]:
    """Seconds until readable, of each record sent in the measured time. Raises ValueError for a record
    that never became readable."""
    numbers = np.flatnonzero((sent >= begun) & (sent < ended))
    found = np.full(len(numbers), np.inf)
    for part in range(PARTITIONS):
        seen = [(sight.at, sight.newest[part]) for sight in sights if part in sight.newest]
        if not seen:
            continue
        moments = np.array([at for at, _ in seen])
        newest = np.maximum.accumulate(np.array([value for _, value in seen]))
        mine = numbers % PARTITIONS == part
        place = np.searchsorted(newest, numbers[mine], side="left")
        readable = np.append(moments, np.inf)[place]
        found[mine] = readable - sent[numbers[mine]]
    if not np.isfinite(found).all():
        raise ValueError(f"{int((~np.isfinite(found)).sum())} records did not become readable")
    return found


def percentiles(times: npt.NDArray[np.float64]) -> dict[str, Any]:
    p50, p95, p99 = (float(value) for value in np.percentile(times, [50, 95, 99]))
    return {"measured": len(times), "p50": p50, "p95": p95, "p99": p99, "most": float(times.max())}


class _Watch:
    """Looks every twenty milliseconds on a thread of its own, and notes what is new."""

    def __init__(self, look: Callable[[], Callable[[], Mapping[int, int]] | None]) -> None:
        self._look = look
        self._seen: list[tuple[float, Callable[[], Mapping[int, int]]]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader")

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            found = self._look()
            if found is not None:
                self._seen.append((time.time(), found))

    def sights(self, *, since: float = 0.0) -> list[Sight]:
        """What was seen. Contents are read only now, so that reading them does not slow the looking."""
        return [sight(at, newest()) for at, newest in self._seen if at >= since]


def _redis_reader(place: Place) -> Callable[[], Callable[[], Mapping[int, int]] | None]:
    client = Redis.from_url(place.settings().redis.url)
    before: list[bytes | None] = [None]

    def look() -> Callable[[], Mapping[int, int]] | None:
        text = client.get("bench_live")
        assert text is None or isinstance(text, bytes)
        if text is None or text == before[0]:
            return None
        before[0] = text
        return lambda: {row["part"]: row["newest"] for row in json.loads(text)["rows"]}

    return look


def _delta_reader(table: Path) -> Callable[[], Callable[[], Mapping[int, int]] | None]:
    log = table / "_delta_log"
    version = [1 + max(int(path.stem) for path in log.glob("*.json"))]

    def look() -> Callable[[], Mapping[int, int]] | None:
        file = log / f"{version[0]:020}.json"
        if not file.is_file():
            return None
        version[0] += 1
        return lambda: _newest_of_commit(table, file)

    return look


def _newest_of_commit(table: Path, commit: Path) -> Mapping[int, int]:
    """The newest record of each partition among the rows that a commit brought."""
    newest: dict[int, int] = {}
    for line in commit.read_text(encoding="utf-8").splitlines():
        added = json.loads(line).get("add")
        if added is None or not added["dataChange"]:
            continue
        rows = pq.read_table(table / added["path"], columns=["part", "newest"])
        for part, value in zip(rows["part"].to_pylist(), rows["newest"].to_pylist(), strict=True):
            newest[part] = max(newest.get(part, -1), value)
    return newest
