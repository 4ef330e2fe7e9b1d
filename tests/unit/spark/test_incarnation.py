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
from spark.stop import StopGate, StopRequestedError

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
    driver._tasks = driver._runs = driver._sizes = SimpleNamespace()  # type: ignore[assignment]
    driver._poison = SimpleNamespace(verdict=PoisonedError("bad"))  # type: ignore[assignment]
    driver._queries = {"counts": Query(active=active)}  # type: ignore[dict-item]
    with pytest.raises(PoisonedError):
        driver.watch()
    assert gate.closed


class Busy:
    """A query with a batch that ends after a few looks."""

    def __init__(self) -> None:
        self.isActive, self.left = True, 3
        self.cut = False

    @property
    def status(self) -> dict[str, bool]:
        self.left -= 1
        return {"isTriggerActive": self.left > 0}

    def stop(self) -> None:
        self.cut, self.isActive = self.left > 0, False


def not_again(tmp_path: Any, error: Exception) -> tuple[Driver, Busy]:
    """A driver one of whose two queries could not start again."""

    def look() -> None:
        raise error

    driver = Driver(Settings(home=tmp_path), ORDER, StopGate(), SimpleNamespace())  # type: ignore[arg-type]
    driver._tasks = driver._sizes = SimpleNamespace()  # type: ignore[assignment]
    driver._runs = SimpleNamespace(look=look, restarting="counts")  # type: ignore[assignment]
    busy = Busy()
    driver._queries = {"records": busy}  # type: ignore[dict-item]
    with pytest.raises(type(error)):
        driver.watch()
    assert driver._gate.closed
    return driver, busy


@pytest.mark.parametrize(
    "error", [OSError("disk"), FencedError("epoch 2 is there"), StopRequestedError("a signal meanwhile")]
)
def test_where_a_query_cannot_start_again_the_batches_of_the_others_come_to_their_end(tmp_path, error):
    _, busy = not_again(tmp_path, error)
    assert (busy.isActive, busy.cut) == (False, False)


def test_a_query_that_cannot_start_again_is_the_one_that_failed(tmp_path):
    driver, _ = not_again(tmp_path, OSError("the disk is full"))
    assert driver.failed_query == "counts"
    assert driver.first_failure is not None
    assert "the disk is full" in driver.first_failure.message


def test_a_stop_that_comes_while_a_query_starts_again_is_no_failure(tmp_path):
    driver, _ = not_again(tmp_path, StopRequestedError())
    assert (driver.failed_query, driver.first_failure) == (None, None)
