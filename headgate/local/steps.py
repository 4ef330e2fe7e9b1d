"""Runs steps that need each other as early as each can run: what is independent runs side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
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
    """One thing to do after all of `needs` are done. `run` raises when it fails."""

    name: str
    run: Callable[[], Done]
    needs: tuple[str, ...] = ()


class StepFailed(HeadgateError):
    """One step failed; those that needed it were not begun, those under way were let finish."""

    def __init__(self, name: str, cause: BaseException) -> None:
        text = str(cause) or type(cause).__name__
        super().__init__(f"{name}: {text}")
        self.name = name
        self.exit_code = cause.exit_code if isinstance(cause, HeadgateError) else 1


class Reporter(Protocol):
    """Told what happens while steps run."""

    def done(self, name: str, done: Done, seconds: float) -> None:
        """A step ended well."""

    def waiting(self, names: Sequence[str]) -> None:
        """Nothing ended for a while; these are under way."""


def run_steps(steps: Sequence[Step], report: Reporter, workers: int = 16) -> Mapping[str, Done]:
    """Run all steps, each after those that it needs. Raises the first StepFailed."""
    waiting = {step.name: step for step in steps}
    _refuse_impossible(waiting)
    done: dict[str, Done] = {}
    failed: StepFailed | None = None
    running: dict[Future[tuple[Done, float]], str] = {}
    with ThreadPoolExecutor(workers) as pool:
        while running or (waiting and failed is None):
            if failed is None:
                for name in [n for n, step in waiting.items() if done.keys() >= set(step.needs)]:
                    running[pool.submit(_timed, waiting.pop(name))] = name
            ended, _ = wait(running, timeout=QUIET_SECONDS, return_when=FIRST_COMPLETED)
            if not ended:
                report.waiting(sorted(running.values()))
            for future in ended:
                name = running.pop(future)
                cause = future.exception()
                if cause is not None:
                    failed = failed or _failure(name, cause)
                    continue
                done[name], seconds = future.result()
                report.done(name, done[name], seconds)
    if failed is not None:
        raise failed
    return done


def _timed(step: Step) -> tuple[Done, float]:
    began = time.monotonic()
    return step.run(), time.monotonic() - began


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
