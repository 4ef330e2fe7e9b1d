"""The ways out of one incarnation of a driver, and what each means.

Exit codes: 0 stopped on request, or at an end of its own · 10 failed · 11 fenced · 12 refused to start. The
reason is in `status.json`, for the supervisor, and in the log, for people.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headgate import __version__
from headgate.checkpoints.owner import FencedError
from headgate.errors import RefusedError
from headgate.streams.failures import EXIT_FAILED, EXIT_FENCED, EXIT_REFUSED
from headgate.streams.model import DriverStatus
from headgate.streams.poison import PoisonedError
from spark.failure import Failure, failure_of
from spark.progress import StatusFile
from spark.stop import StopGate, StopRequestedError

__all__ = ["Order", "run_incarnation"]

_log = logging.getLogger("headgate.driver")


class Runs(Protocol):
    """What is run: a driver."""

    first_failure: Failure | None
    failed_query: str | None

    @property
    def done(self) -> bool: ...

    def start(self) -> None: ...

    def watch(self) -> None: ...

    def fenced(self) -> Failure | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What the supervisor asks one incarnation to run."""

    pipeline: str
    contract_hash: str
    generation: int
    epoch: int
    origin: str | None = None  # the file that says where the generation begins


def run_incarnation(order: Order, report: Path, make: Callable[[StopGate, StatusFile], Runs]) -> int:
    """Run one driver to its end, reporting to this file; the exit code."""
    gate = StopGate()
    gate.install()
    status = StatusFile(
        report,
        DriverStatus(
            stream=order.pipeline,
            pipeline=order.pipeline,
            epoch=order.epoch,
            generation=order.generation,
            contract_hash=order.contract_hash,
            lineage="",
            headgate_version=__version__,
            pid=os.getpid(),
            phase="starting",
            written_at=time.time(),
        ),
    )
    driver = make(gate, status)
    try:
        driver.start()
        driver.watch()
    except StopRequestedError:
        return _end(status, driver, 0, None)
    except FencedError as error:
        return _end(status, driver, EXIT_FENCED, failure_of(error))
    except RefusedError as error:
        return _end(status, driver, EXIT_REFUSED, failure_of(error))
    except PoisonedError as error:
        # Whatever a query met while the others came to their end, it was not what ended the driver.
        driver.failed_query = None
        return _end(status, driver, EXIT_FAILED, driver.fenced() or failure_of(error))
    except Exception as error:  # noqa: BLE001 - the one place that catches: every way out is classified
        _log.exception("the driver failed")
        return _end(status, driver, EXIT_FAILED, driver.fenced() or driver.first_failure or failure_of(error))
    return _end(status, driver, 0, None)


def _end(status: StatusFile, driver: Runs, code: int, failure: Failure | None) -> int:
    if failure is None:
        status.change(phase="done" if driver.done else "stopped")
        told = "at the end of its range" if driver.done else "stopped on request"
        _log.info("%s; every batch that ran is committed", told)
    else:
        if failure.failure_class == "fenced":
            code = EXIT_FENCED
        status.change(
            phase="failed",
            failure_class=failure.failure_class,
            failure_condition=failure.condition,
            failure_message=failure.message,
            failure_query=driver.failed_query,
        )
        _log.error("%s: %s", failure.failure_class, failure.message)
    driver.close()
    return code
