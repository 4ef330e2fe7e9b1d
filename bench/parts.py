"""The parts of the benchmark by name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench import fencing, lanes, latency, memory, recovery, start
from bench.peers import compare as peers
from bench.place import Place
from bench.throughput import JOBS, compare, show

__all__ = ["BY_NAME_ONLY", "PARTS", "chosen"]

Part = Callable[[Place, argparse.Namespace], Iterator[dict[str, Any]]]


def _throughput(prefix: str) -> Part:
    def run(place: Place, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
        for job in JOBS:
            if job.name.startswith(prefix):
                result = compare(place, job, records=options.records, runs=options.runs)
                print(show(result), flush=True)
                yield result

    return run


def _lanes(part: str) -> Part:
    def run(place: Place, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
        for job in lanes.LANE_JOBS[part]:
            result = lanes.compare_lanes(place, job, records=options.records, runs=options.runs)
            print(lanes.show(result), flush=True)
            yield result

    return run


PARTS: dict[str, Part] = {
    "records": _throughput("records"),
    "windows": _throughput("windows"),
    **{part: _lanes(part) for part in lanes.LANE_JOBS},
    "fencing": lambda place, options: fencing.measure(place, options.records, options.runs),
    "start": lambda place, options: start.measure(place, options.runs),
    "recovery": lambda place, options: recovery.measure(place, options.runs),
    "latency": lambda place, options: latency.measure(place, options.seconds),
    "memory": lambda place, options: memory.measure(place, options.seconds),
    "peers": lambda place, options: peers.measure(place, records=options.records, runs=options.runs),
}
# What needs more than `make setup`.
BY_NAME_ONLY = frozenset({"peers"})


def chosen(named: Sequence[str]) -> list[str]:
    """The parts to run, in their order: those that are named, or all that need no naming."""
    return [part for part in PARTS if (part in named if named else part not in BY_NAME_ONLY)]
