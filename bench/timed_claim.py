"""A driver that notes how long it takes to look at its claim and to report.

    python -m bench.timed_claim --pipeline NAME …    as `python -m spark`

Writes (moment of its end, seconds) of every look and report to the file that BENCH_CLAIM_TIMES names.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from headgate.checkpoints.owner import OwnerClaim
from spark.__main__ import main
from spark.progress import StatusFile

__all__ = ["FILE"]

FILE = "BENCH_CLAIM_TIMES"

_times: list[tuple[float, float]] = []


def _timed(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            _times.append((time.time(), time.perf_counter() - begun))

    return timed


if __name__ == "__main__":
    OwnerClaim.check = _timed(OwnerClaim.check)  # type: ignore[method-assign]
    StatusFile._write = _timed(StatusFile._write)  # type: ignore[method-assign]
    code = main()
    Path(os.environ[FILE]).write_text(json.dumps(_times), encoding="utf-8")
    sys.exit(code)
