"""Runs steps that need each other as early as each can run: what is independent runs side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Protocol

from headgate.errors import HeadgateError

__all__ = ["Done", "Reporter", "Step", "StepFailed", "run_steps"]

QUIET_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did. `changed` is False when it found everything as it should be."""

    changed: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do after all of `needs` are done. `run` raises when it fails.

    An `abandonable` step only waits for something: when another one fails, nobody waits for it.
    """

    name: str
    run: Callable[[], Done]
    needs: tuple[str, ...] = ()
    abandonable: bool = False


class StepFailed(HeadgateError):
    """One step failed; those that needed it were not begun, those that change something were let finish."""

    def __init__(self, name: str, cause: BaseException) -> None:
        # An error that nobody foresaw says at least what kind it is; --debug shows where it came from.
        text = str(cause) if isinstance(cause, HeadgateError) else f"{type(cause).__name__}: {cause}"
        super().__init__(f"{name}: {text}")
        self.name = name
        self.exit_code = cause.exit_code if isinstance(cause, HeadgateError) else 1


class Reporter(Protocol):
    """Told what happens while steps run."""

    def done(self, name: str, done: Done, seconds: float) -> None:
        """A step ended well."""

    def waiting(self, names: Sequence[str]) -> None:
        """Nothing ended for a while; these are under way."""


def run_steps(steps: Sequence[Step], report: Reporter) -> Mapping[str, Done]:
    """Run all steps, each after those that it needs. Raises the first StepFailed.

    Steps run in daemon threads, so that an interrupt or a failure never waits for a health check.
    """
    waiting = {step.name: step for step in steps}
    _refuse_impossible(waiting)
    done: dict[str, Done] = {}
    running: dict[str, Step] = {}
    failed: StepFailed | None = None
    ended: Queue[_Ended] = Queue()
    while _goes_on(waiting, running, failed):
        if failed is None:
            for name in [n for n, step in waiting.items() if done.keys() >= set(step.needs)]:
                running[name] = waiting.pop(name)
                threading.Thread(target=_work, args=(running[name], ended), name=name, daemon=True).start()
        try:
            end = ended.get(timeout=QUIET_SECONDS)
        except Empty:
            report.waiting(sorted(running))
            continue
        del running[end.name]
        if end.cause is not None:
            failed = failed or _failure(end.name, end.cause)
        else:
            done[end.name] = end.done
            report.done(end.name, end.done, end.seconds)
    if failed is not None:
        raise failed
    return done


@dataclass(frozen=True, slots=True)
class _Ended:
    name: str
    seconds: float
    done: Done
    cause: BaseException | None = None


def _goes_on(waiting: Mapping[str, Step], running: Mapping[str, Step], failed: StepFailed | None) -> bool:
    if failed is None:
        return bool(waiting or running)
    return any(not step.abandonable for step in running.values())


def _work(step: Step, ended: Queue[_Ended]) -> None:
    began = time.monotonic()
    try:
        done = step.run()
        ended.put(_Ended(step.name, time.monotonic() - began, done))
    except BaseException as error:  # noqa: BLE001 - raised again, as StepFailed, where the steps were asked for
        ended.put(_Ended(step.name, time.monotonic() - began, Done(False), error))


def _failure(name: str, cause: BaseException) -> StepFailed:
    failure = StepFailed(name, cause)
    failure.__cause__ = cause
    return failure


def _refuse_impossible(steps: Mapping[str, Step]) -> None:
    """A step that needs something unknown, or itself in a circle, would wait for ever."""
    left = dict(steps)
    done: set[str] = set()
    while left:
        ready = [name for name, step in left.items() if done >= set(step.needs)]
        if not ready:
            raise ValueError(f"these steps can never run: {', '.join(sorted(left))}")
        for name in ready:
            done.add(name)
            del left[name]
