from __future__ import annotations

import threading

import pytest

from headgate.errors import RefusedError
from headgate.local.steps import Done, Step, StepFailed, run_steps


def _silent(_name: str, _done: Done, _seconds: float) -> None:
    pass


def test_a_step_runs_after_what_it_needs() -> None:
    order: list[str] = []

    def step(name: str, *needs: str) -> Step:
        def run() -> Done:
            order.append(name)
            return Done(True)

        return Step(name, run, needs)

    run_steps([step("c", "a", "b"), step("b", "a"), step("a")], _silent)
    assert order == ["a", "b", "c"]


def test_independent_steps_run_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=5)

    def meet() -> Done:
        meeting.wait()
        return Done(False)

    assert set(run_steps([Step("a", meet), Step("b", meet)], _silent)) == {"a", "b"}


def test_a_failed_step_names_itself_and_keeps_the_causes_exit_code() -> None:
    def fail() -> Done:
        raise RefusedError("port taken", help="choose another")

    ran: list[str] = []

    def after() -> Done:
        ran.append("after")
        return Done(True)

    with pytest.raises(StepFailed, match="kafka: port taken") as caught:
        run_steps([Step("kafka", fail), Step("topics", after, ("kafka",))], _silent)
    assert caught.value.exit_code == RefusedError.exit_code
    assert "choose another" in str(caught.value)
    assert ran == []


def test_what_runs_when_a_step_fails_is_let_finish() -> None:
    begun, failed = threading.Event(), threading.Event()
    finished: list[str] = []

    def slow() -> Done:
        begun.set()
        failed.wait(5)
        finished.append("slow")
        return Done(True)

    def fail() -> Done:
        begun.wait(5)
        failed.set()
        raise RefusedError("no")

    with pytest.raises(StepFailed):
        run_steps([Step("slow", slow), Step("fail", fail)], _silent)
    assert finished == ["slow"]


def test_steps_that_wait_for_each_other_are_refused_before_any_runs() -> None:
    ran: list[str] = []

    def run() -> Done:
        ran.append("x")
        return Done(True)

    with pytest.raises(ValueError, match="a, b"):
        run_steps([Step("x", run), Step("a", run, ("b",)), Step("b", run, ("a",))], _silent)
    assert ran == []
