"""The applied contracts as serving needs them: which outputs are in Redis. Read again when they change."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.errors import NotFoundError

__all__ = ["AppliedOutputs", "ServedPipeline"]

LOOK_SECONDS = 1.0  # between two looks at the folder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServedPipeline:
    """A pipeline's outputs that go to Redis, in the contract's order, and those that do not."""

    pipeline: str
    served: tuple[str, ...]
    others: tuple[str, ...]

    @classmethod
    def of(cls, frozen: FrozenContract) -> ServedPipeline:
        outputs = frozen.contract.outputs
        served = [name for name, output in outputs.items() if any(target.redis for target in output.to)]
        others = [name for name in outputs if name not in served]
        return cls(frozen.pipeline, tuple(served), tuple(others))


class AppliedOutputs:
    """By pipeline; safe for several threads. A contract that cannot be read leaves the last one in use."""

    def __init__(self, state: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = ContractStore(state)
        self._folder = state / "contracts" / "applied"
        self._clock = clock
        self._lock = Lock()
        self._looked = float("-inf")
        self._seen: tuple[tuple[str, int], ...] | None = None
        self._pipelines: Mapping[str, ServedPipeline] = {}
        self.problems: Mapping[str, str] = {}

    def all(self) -> Mapping[str, ServedPipeline]:
        with self._lock:
            if self._clock() - self._looked >= LOOK_SECONDS:
                self._looked = self._clock()
                self._look()
            return self._pipelines

    def _look(self) -> None:
        try:
            seen = tuple(sorted((path.name, path.stat().st_mtime_ns) for path in self._folder.glob("*.json")))
        except FileNotFoundError:  # one went between the two: at the next look
            return
        if seen == self._seen:
            return
        pipelines: dict[str, ServedPipeline] = {}
        problems: dict[str, str] = {}
        for path in sorted(self._folder.glob("*.json")):
            try:
                pipelines[path.stem] = ServedPipeline.of(self._store.get(_hash(path)))
            except (OSError, ValueError, KeyError, TypeError, NotFoundError) as error:
                problems[path.stem] = f"{type(error).__name__}: {error}".splitlines()[0]
                log.warning("the applied contract of %s cannot be read: %s", path.stem, problems[path.stem])
                if path.stem in self._pipelines:
                    pipelines[path.stem] = self._pipelines[path.stem]
        self._pipelines, self.problems = pipelines, problems
        self._seen = None if problems else seen  # try again at the next look


def _hash(pointer: Path) -> str:
    """Read one pointer by itself: one that is damaged is no reason not to serve the others."""
    return str(json.loads(pointer.read_text(encoding="utf-8"))["hash"])
