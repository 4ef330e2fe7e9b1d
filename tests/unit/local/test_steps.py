from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from headgate.errors import RefusedError
from headgate.local import steps
from headgate.local.steps import Done, Step, StepFailed, run_steps


class Silent:
    def __init__(self) -> None:
        self.waited: list[list[str]] = []

    def done(self, name: str, done: Done, seconds: float) -> None:
        pass

    def waiting(self, names: Sequence[str]) -> None:
        self.waited.append(list(names))


def test_a_step_runs_after_what_it_needs() -> None:
    order: list[str] = []

    def step(name: str, *needs: str) -> Step:
        def run() -> Done:
            order.append(name)
            return Done(True)

        return Step(name, run, needs)

    run_steps([step("c", "a", "b"), step("b", "a"), step("a")], Silent())
    assert order == ["a", "b", "c"]


def test_independent_steps_run_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=5)

    def meet() -> Done:
        meeting.wait()
        return Done(False)

    assert set(run_steps([Step("a", meet), Step("b", meet)], Silent())) == {"a", "b"}


def test_a_failed_step_names_itself_and_keeps_the_causes_exit_code() -> None:
    def fail() -> Done:
        raise RefusedError("port taken", help="choose another")

    ran: list[str] = []

    def after() -> Done:
        ran.append("after")
        return Done(True)

    with pytest.raises(StepFailed, match="kafka: port taken") as caught:
        run_steps([Step("kafka", fail), Step("topics", after, ("kafka",))], Silent())
    assert caught.value.exit_code == RefusedError.exit_code
    assert "choose another" in str(caught.value)
    assert ran == []


def _beside_a_failure(abandonable: bool) -> tuple[list[str], threading.Event]:
    """A step that runs while another one fails; returns what finished before the failure was raised."""
    begun, release = threading.Event(), threading.Event()
    finished: list[str] = []

    def slow() -> Done:
        begun.set()
        release.wait(0.3)
        finished.append("slow")
        return Done(True)

    def fail() -> Done:
        begun.wait(5)
        raise RefusedError("no")

    with pytest.raises(StepFailed):
        run_steps([Step("slow", slow, abandonable=abandonable), Step("fail", fail)], Silent())
    return list(finished), release


def test_what_changes_something_is_let_finish_when_another_step_fails() -> None:
    finished, _ = _beside_a_failure(abandonable=False)
    assert finished == ["slow"]


def test_what_only_waits_is_not_waited_for_when_another_step_fails() -> None:
    finished, release = _beside_a_failure(abandonable=True)
    release.set()
    assert finished == []


def test_steps_that_wait_for_each_other_are_refused_before_any_runs() -> None:
    ran: list[str] = []

    def run() -> Done:
        ran.append("x")
        return Done(True)

    with pytest.raises(ValueError, match="a, b"):
        run_steps([Step("x", run), Step("a", run, ("b",)), Step("b", run, ("a",))], Silent())
    assert ran == []


def test_a_long_step_is_named_while_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "QUIET_SECONDS", 0.05)
    report = Silent()
    named = threading.Event()

    def slow() -> Done:
        named.wait(5)
        return Done(True)

    def tell(names: Sequence[str]) -> None:
        report.waited.append(list(names))
        named.set()

    monkeypatch.setattr(report, "waiting", tell)
    run_steps([Step("slow", slow)], report)
    assert report.waited[0] == ["slow"]
