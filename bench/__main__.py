"""`python -m bench [PART…]`: run parts of the benchmark and write bench/RESULTS.md."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from types import FrameType

from bench.parts import BY_NAME_ONLY, PARTS, chosen
from bench.place import open_place
from bench.report import append, render
from bench.services import broker_and_redis


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    told = f"{' '.join(PARTS)} (default: all but {' '.join(sorted(BY_NAME_ONLY))})"
    parser.add_argument("parts", nargs="*", metavar="PART", help=told)
    told = "records of a throughput job; an eighth of them where they are wide"
    parser.add_argument("--records", type=int, default=16_000_000, help=told)
    parser.add_argument("--runs", type=int, default=3, help="alternating runs of each measurement")
    parser.add_argument("--seconds", type=int, default=60, help="seconds of a latency measurement")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"unknown part {unknown[0]}: expected {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, _end)
    place = open_place()
    command = " ".join(["python -m bench", *map(shlex.quote, sys.argv[1:])])
    with broker_and_redis(place):
        for part in chosen(options.parts):
            begun = time.time()
            for result in PARTS[part](place, options):
                append(result | {"part": part, "at": begun, "command": command})
    render()
    return 0


def _end(_number: int, _frame: FrameType | None) -> None:
    """Leave in order: what was started is ended on the way out."""
    raise SystemExit("ended by SIGTERM")


if __name__ == "__main__":
    sys.exit(main())
