"""How large the records of a pipeline's topics lately were, kept for its next driver.

    <checkpoints>/<pipeline>/sizes.json    topic to the mean bytes of an offset

Nothing rests on it but how large first batches are: what cannot be read is not there, and what cannot be
written is written another time.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["KeptSizes", "read_sizes"]

_log = logging.getLogger("headgate.driver")

_FAR = 1.25  # what is less than so much off is not written again


def read_sizes(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(topic): float(mean) for topic, mean in found.items() if float(mean) >= 0}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


class KeptSizes:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.found = read_sizes(path)  # what an earlier driver left
        self._kept = dict(self.found)
        self._failed = False

    def keep(self, sizes: Mapping[str, float]) -> None:
        """Write them where they are no longer what is written. To be called by who holds the claim."""
        if not any(_differ(mean, self._kept.get(topic)) for topic, mean in sizes.items()):
            return
        after = {**self._kept, **sizes}
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            draft.write_text(json.dumps(after, indent=1, sort_keys=True), encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            if not self._failed:
                _log.warning("%s cannot be written: %s", self._path, error)
            self._failed = True
            return
        self._kept, self._failed = after, False


def _differ(mean: float, kept: float | None) -> bool:
    return kept is None or max(mean, kept) > _FAR * min(mean, kept)
