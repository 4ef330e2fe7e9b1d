"""A driver's claim: `_owner/<epoch>`, created exclusively and looked at before every write."""

from __future__ import annotations

import json
import os
from pathlib import Path

from headgate.errors import HeadgateError

__all__ = ["FencedError", "OwnerClaim"]


class FencedError(HeadgateError):
    """A newer incarnation of this driver exists: this one must not write any more."""

    exit_code = 11


class OwnerClaim:
    """Held by one incarnation. Files, not the state store: a database outage never hurts a stream."""

    def __init__(self, folder: Path, epoch: int) -> None:
        self._folder = folder
        self.epoch = epoch

    def take(self, note: dict[str, object]) -> None:
        """Claim the epoch. Raises FencedError when it, or a higher one, is taken."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.check()
        try:
            descriptor = os.open(self._folder / str(self.epoch), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError as error:
            raise FencedError(f"epoch {self.epoch} was claimed before, see {self._folder}") from error
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(note, stream)
        self.check()

    def check(self) -> None:
        """Raises FencedError when a higher epoch has been claimed."""
        newest = max((int(name) for name in os.listdir(self._folder) if name.isdigit()), default=0)  # noqa: PTH208 - before every write: names are enough
        if newest > self.epoch:
            raise FencedError(f"epoch {newest} has taken over from epoch {self.epoch}, see {self._folder}")
