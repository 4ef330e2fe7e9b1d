"""One pass over a topic for two queries: the tasks of a stateful output screen for the record query, too.

Where no output passes records on, the record query only screens and counts. What it would find is known
already when the tasks of a stateful output have judged the same offsets, so it takes that (stretches, see
`headgate.arrow.stretches`) and its own tasks do not run. Whatever is missing or not sure, they do.

Stretches are of one driver, and gone with it: a batch that runs again is screened by its own query.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.arrow.choice import screening_output
from headgate.arrow.files import file_mark
from headgate.arrow.stretches import Stretch, covering, noted_stretches
from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import batch_offsets, committed_offsets

if TYPE_CHECKING:
    from spark.context import DriverContext

__all__ = ["SharedScreening", "shared_screening"]

_log = logging.getLogger("headgate.driver")

# How long a batch waits for the other query: as long as that comes on, less than would pass for a stall.
_SILENCE, _LONGEST = 20.0, 120.0
_LOOK = 0.1
MOST_BYTES = 16 * 1024 * 1024  # of records that are not good, that the driver takes into its memory

Ranges = Mapping[int, tuple[int, int]]


def shared_screening(context: DriverContext) -> SharedScreening | None:
    """None where the record query screens by itself: its workers may not see this driver's folders, too."""
    if not context.settings.spark.master.startswith("local"):
        return None
    output = screening_output(context.frozen)
    if output is None:
        return None
    return SharedScreening(context, output)


class SharedScreening:
    """What the tasks of `output` have judged."""

    def __init__(self, context: DriverContext, output: str) -> None:
        self.output = output
        self.came_on: Callable[[], None] = lambda: None  # told while a batch waits and tasks end
        self._heard = False  # whether that query runs: before, nobody should wait for it
        self._used: bool | None = None
        self._context = context
        (self._topic,) = context.frozen.topics.values()
        queries = (RECORDS, output)
        self._records, self._other = (context.layout.query(context.lineage.id, query) for query in queries)
        folder = context.settings.state / "streams" / context.frozen.pipeline / "screened"
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.unlink(missing_ok=True)  # of drivers before this one
        self.notes = str(folder), file_mark(context.epoch)

    def notes_of(self, output: str) -> tuple[str, str] | None:
        """Where the tasks of an output note what they judge, and the mark; None of all outputs but one."""
        return self.notes if output == self.output else None

    def parts(self, batch_id: int) -> list[Stretch] | None:
        """What was judged of a batch of the record query; it waits while that may still come. Raises
        StopRequestedError, FencedError. None where its own tasks have to run."""
        found = self._look(batch_id)
        if self._used is not (found is not None):
            self._used = found is not None
            whose = f"those of output {self.output}" if self._used else "its own"
            _log.info("from batch %d of the records on, the tasks that screen are %s", batch_id, whose)
        return found

    def _look(self, batch_id: int) -> list[Stretch] | None:
        wanted = self._wanted(batch_id)
        self._heard = self._heard or bool(self._noted())
        if wanted is None or not self._heard or self._is_far(wanted):
            return None
        self._forget(wanted)
        begun = heard = time.monotonic()
        known = -1
        while True:
            behind = self._missing(wanted) > 0  # asked first: what is committed has been noted before
            stretches = self._noted()
            found = covering(stretches, wanted)
            if found is not None:
                return found if sum(part.size for part in found) <= MOST_BYTES else None
            now = time.monotonic()
            if len(stretches) != known:
                known, heard = len(stretches), now
                self.came_on()
            if not behind or now - heard > _SILENCE or now - begun > _LONGEST:
                return None
            self._context.gate.wait(_LOOK)
            self._context.before_batch()

    def _wanted(self, batch_id: int) -> Ranges | None:
        """The offsets of a batch; None of the first one in a log, which does not say where it begins."""
        if not (self._records / "offsets" / str(batch_id - 1)).is_file():
            return None
        ends = batch_offsets(self._records, batch_id).offsets.get(self._topic, {})
        begins = batch_offsets(self._records, batch_id - 1).offsets.get(self._topic, {})
        if not ends.keys() <= begins.keys():
            return None  # a partition is new
        return {number: (begins[number], end) for number, end in ends.items() if end > begins[number]}

    def _is_far(self, wanted: Ranges) -> bool:
        """Whether the other query has more than a batch to do before it comes to these records at all."""
        before = {number: (0, first) for number, (first, _) in wanted.items()}
        return self._missing(before) > self._context.frozen.contract.job.max_records_per_batch

    def _missing(self, wanted: Ranges) -> int:
        """How many of these offsets the other query has not committed: what it has, is noted or never will
        be. Before its first batch nobody knows where it begins: one."""
        committed = committed_offsets(self._other)
        if committed is None:
            return 1
        read = committed.offsets.get(self._topic, {})
        return sum(
            max(0, behind - max(first, read.get(number, 0))) for number, (first, behind) in wanted.items()
        )

    def _forget(self, wanted: Ranges) -> None:
        """Remove what lies before this batch: those are committed."""
        for each in self._noted():
            first = wanted.get(each.partition, (0, 0))[0]
            if each.behind <= first:
                each.path.unlink(missing_ok=True)

    def _noted(self) -> list[Stretch]:
        folder, mark = self.notes
        return noted_stretches(Path(folder), mark)
