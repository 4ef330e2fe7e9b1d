"""How large records are, for a driver's caps: looked at when it starts, or else as an earlier one left it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.batches.kept import KeptSizes
from headgate.batches.sample import Reading, Sampling

if TYPE_CHECKING:
    from headgate.batches.caps import BatchCaps
    from headgate.contract.frozen import FrozenContract
    from headgate.settings import Settings

__all__ = ["RecordSizes"]

_log = logging.getLogger("headgate.driver")


class RecordSizes:
    """Begins to look when it is made, in a thread. `kept` is the file of the pipeline that runs."""

    def __init__(
        self,
        settings: Settings,
        frozen: FrozenContract,
        caps: BatchCaps,
        readings: Callable[[], Mapping[str, Reading]],
        kept: Path,
    ) -> None:
        self._topics = frozenset(frozen.topics.values())
        self._caps = caps
        self._kept = KeptSizes(kept)
        self._sampling = Sampling(settings, self._topics, readings)

    def settle(self) -> None:
        """The caps of the first batches."""
        found, before = self._sampling.result(), self._kept.found
        for topic in sorted(self._topics - found.keys()):
            known = f"about {before[topic]:,.0f} bytes each, as measured before" if topic in before else ""
            _log.warning("the records of %s are taken for %s", topic, known or "large ones: small batches")
        self._caps.sampled(found, before)

    def keep(self) -> None:
        """For the next driver, what the caps have measured. To be called by who holds the claim."""
        self._kept.keep(self._caps.sizes())
