"""How one incarnation of a driver ends, and what it says of itself then."""

from __future__ import annotations

import json
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.checkpoints.owner import FencedError
from headgate.settings import Settings
from headgate.streams.failures import EXIT_FAILED, EXIT_FENCED
from headgate.streams.poison import PoisonedError
from spark.driver import Driver
from spark.failure import Failure, failure_of
from spark.incarnation import Order, run_incarnation
from spark.stop import StopGate

ORDER = Order("shop", "ab" * 32, 1, 1)
AWAY = Failure("dependency", "KAFKA", "Kafka went away")


@pytest.fixture(autouse=True)
def own_signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Run:
    """A driver that ends with `error`, after a query of it has failed for something else."""

    done = False

    def __init__(self, error: Exception, *, fenced: bool = False) -> None:
        self.error = error
        self.is_fenced = fenced
        self.first_failure: Failure | None = AWAY
        self.failed_query: str | None = "counts"

    def start(self) -> None:
        pass

    def watch(self) -> None:
        raise self.error

    def fenced(self) -> Failure | None:
        return failure_of(FencedError("epoch 2 is there")) if self.is_fenced else None

    def close(self) -> None:
        pass


def ended(tmp_path: Any, run: Run) -> tuple[int, dict[str, Any]]:
    report = tmp_path / "status.json"
    return run_incarnation(ORDER, report, lambda gate, status: run), json.loads(report.read_text())


def test_poison_is_told_as_poison_whatever_a_query_met_meanwhile(tmp_path):
    code, report = ended(tmp_path, Run(PoisonedError("9 of 10 were quarantined")))
    told = (code, report["failure_class"], report["failure_message"], report["failure_query"])
    assert told == (EXIT_FAILED, "poison", "9 of 10 were quarantined", None)


def test_only_a_newer_epoch_goes_before_poison(tmp_path):
    code, report = ended(tmp_path, Run(PoisonedError("bad"), fenced=True))
    assert (code, report["failure_class"]) == (EXIT_FENCED, "fenced")


def test_any_other_end_is_told_as_the_first_failure_with_its_query(tmp_path):
    code, report = ended(tmp_path, Run(ValueError("wrapped by Spark")))
    told = (code, report["failure_class"], report["failure_query"])
    assert told == (EXIT_FAILED, "dependency", "counts")


class Query:
    """One that cannot be stopped, or that has ended with an error of its own."""

    def __init__(self, *, active: bool) -> None:
        self.isActive = active
        self.status = {"isTriggerActive": False}

    def stop(self) -> None:
        raise OSError("the gateway is gone")

    def exception(self) -> Exception:
        return OSError("Kafka went away")


@pytest.mark.parametrize("active", [True, False])
def test_a_poisoned_driver_ends_poisoned_when_a_query_fails_at_the_same_time(tmp_path, active):
    gate = StopGate()
    driver = Driver(Settings(home=tmp_path), ORDER, gate, SimpleNamespace())  # type: ignore[arg-type]
    driver._tasks = driver._runs = SimpleNamespace()  # type: ignore[assignment]
    driver._poison = SimpleNamespace(verdict=PoisonedError("bad"))  # type: ignore[assignment]
    driver._queries = {"counts": Query(active=active)}  # type: ignore[dict-item]
    with pytest.raises(PoisonedError):
        driver.watch()
    assert gate.closed
