"""When `headgate start` and `restart` say that a stream runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headgate.cli import streams as module
from headgate.cli.streams import await_running
from headgate.errors import HeadgateError
from headgate.streams.model import Desired, DriverStatus, Phase, StreamStatus

STATUS = StreamStatus("shop", "shop", Phase.RUNNING, Desired.RUNNING, 2, 3, "ab" * 32)


def report(generation: int) -> DriverStatus:
    return DriverStatus("shop", "shop", generation, generation, "ab" * 32, "1-a", "1", 1, "running", 1.0)


class Client:
    """Answers with one status after the other; the last one stays."""

    def __init__(self, *answers: StreamStatus) -> None:
        self.answers = list(answers)
        self.asked = 0

    def status(self, _stream: str) -> StreamStatus:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.001)


OLD = replace(STATUS, driver=report(1))
ENDING = replace(OLD, phase=Phase.STOPPING)
STARTING = replace(STATUS, phase=Phase.STARTING, driver=None)
NEW = replace(STATUS, driver=report(2))


def test_a_driver_of_the_generation_before_is_not_the_one_that_was_ordered() -> None:
    client: Any = Client(OLD, ENDING, STARTING, NEW)
    assert await_running(client, OLD, 60) is NEW
    assert client.asked == 4


@pytest.mark.parametrize(
    "other",
    [replace(OLD, generation=3), replace(OLD, desired=Desired.STOPPED)],
    ids=["another order", "a stop"],
)
def test_another_order_ends_the_wait(other: StreamStatus, capsys: pytest.CaptureFixture[str]) -> None:
    client: Any = Client(other)
    assert await_running(client, OLD, 60) is other
    assert "does not run yet" not in capsys.readouterr().err


def test_a_parked_stream_is_an_error_with_its_reason() -> None:
    client: Any = Client(replace(STARTING, phase=Phase.PARKED, reason="the checkpoint is torn"))
    with pytest.raises(HeadgateError, match="parked: the checkpoint is torn"):
        await_running(client, OLD, 60)


def test_what_does_not_run_in_time_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    client: Any = Client(OLD)
    assert await_running(client, OLD, 0.01) is OLD
    assert "generation 2 does not run yet" in capsys.readouterr().err


def test_without_a_wait_nothing_is_asked() -> None:
    client: Any = Client(NEW)
    assert await_running(client, OLD, 0) is OLD
    assert client.asked == 0
