"""One pass over a topic for two queries: the tasks of a stateful output screen for the record query, too.

Where no output passes records on, the record query only screens and counts. What it would find is known
already when the tasks of a stateful output have judged the same offsets, so it takes that (stretches, see
`headgate.arrow.stretches`) and its own tasks do not run. Whatever is missing or not sure, they do.

Stretches are of one driver, and gone with it: a batch that runs again is screened by its own query.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.arrow.choice import screening_output
from headgate.arrow.files import epoch_of, file_mark
from headgate.arrow.stretches import Stretch, cover, noted_stretches
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
# Of notes that wait for the record query. What lies farther ahead it screens by itself.
KEPT_FILES, KEPT_BYTES = 5_000, 512 * 1024 * 1024
_TIDY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Wanted:
    ranges: Mapping[int, tuple[int, int]]  # by partition: the first offset and the one behind the last
    now: int  # the batch's time, in microseconds


def shared_screening(context: DriverContext) -> SharedScreening | None:
    """None where the record query screens by itself: its workers may not see this driver's folders, too.
    Notes of earlier drivers are removed in any case. Raises FencedError."""
    folder = context.settings.state / "streams" / context.frozen.pipeline / "screened"
    _clear(context, folder)
    output = screening_output(context.frozen)
    if output is None or not context.settings.spark.master.startswith("local"):
        return None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # bad records are in it as they came
    return SharedScreening(context, output, folder)


def _clear(context: DriverContext, folder: Path) -> None:
    """A newer driver's notes stay: this one may have been replaced by it."""
    context.before_write()
    for path in folder.iterdir() if folder.is_dir() else ():
        if epoch_of(path.name) <= context.epoch:
            path.unlink(missing_ok=True)


class SharedScreening:
    """What the tasks of `output` have judged."""

    def __init__(self, context: DriverContext, output: str, folder: Path) -> None:
        self.output = output
        self.came_on: Callable[[], None] = lambda: None  # told while a batch waits and the other comes on
        self.waited = False  # whether the last batch had to
        self.notes = str(folder), file_mark(context.epoch)
        self._heard = False  # whether that query runs: before, nobody should wait for it
        self._used: bool | None = None
        self._tidied_at = time.monotonic()
        self._context = context
        ((self._source, self._topic),) = context.frozen.topics.items()
        queries = (RECORDS, output)
        self._records, self._other = (context.layout.query(context.lineage.id, query) for query in queries)

    def notes_of(self, output: str) -> tuple[str, str] | None:
        """Where the tasks of an output note what they judge, and the mark; None of all outputs but one."""
        return self.notes if output == self.output else None

    def now(self, batch_id: int) -> int:
        """The time of a batch of the record query, in microseconds."""
        return batch_offsets(self._records, batch_id).batch_timestamp_ms * 1000

    def parts(self, batch_id: int) -> Sequence[Stretch] | None:
        """What was judged of a batch of the record query; it waits while that may still come. Raises
        StopRequestedError, FencedError. None where its own tasks have to run."""
        self.waited = False
        found = self._look(batch_id)
        if self._used is not (found is not None):
            self._used = found is not None
            whose = f"those of output {self.output}" if self._used else "its own"
            _log.info("from batch %d of the records on, the tasks that screen are %s", batch_id, whose)
        return found

    def _look(self, batch_id: int) -> Sequence[Stretch] | None:
        wanted = self._wanted(batch_id)
        self._heard = self._heard or bool(self._noted())
        if wanted is None or not self._heard or self._is_far(wanted):
            return None
        begun = heard = time.monotonic()
        least: int | None = None
        while True:
            read = self._read()  # asked first: what is committed has been noted before
            found = cover(self._noted(), wanted.ranges, wanted.now)
            if not found.gaps:
                return found.parts if sum(part.size for part in found.parts) <= MOST_BYTES else None
            now = time.monotonic()
            if least is not None and found.missing < least:
                heard = now
                self.came_on()
            least = found.missing
            if any(gap.first < read.get(gap.partition, 0) for gap in found.gaps):
                return None  # that will not be noted any more
            if now - heard > _SILENCE or now - begun > _LONGEST:
                return None
            self.waited = True
            self._context.gate.wait(_LOOK)
            self._context.before_batch()

    def _wanted(self, batch_id: int) -> _Wanted | None:
        """The offsets of a batch; None of the first one in a log, which does not say where it begins."""
        if not (self._records / "offsets" / str(batch_id - 1)).is_file():
            return None
        batch = batch_offsets(self._records, batch_id)
        ends = batch.offsets.get(self._topic, {})
        begins = batch_offsets(self._records, batch_id - 1).offsets.get(self._topic, {})
        if not ends.keys() <= begins.keys():
            return None  # a partition is new
        ranges = {number: (begins[number], end) for number, end in ends.items() if end > begins[number]}
        return _Wanted(ranges, batch.batch_timestamp_ms * 1000)

    def _is_far(self, wanted: _Wanted) -> bool:
        """Whether the other query has more than a batch to do before it comes to these records at all.
        Where it begins its first one is not in its log, but where that ends."""
        read = self._read()
        if not read and (self._other / "offsets" / "0").is_file():
            read = batch_offsets(self._other, 0).offsets.get(self._topic, {})
        if not read:
            return True
        away = sum(max(0, first - read.get(number, 0)) for number, (first, _) in wanted.ranges.items())
        return away > self._context.caps.of(self.output)[self._source]

    def _read(self) -> Mapping[int, int]:
        """The offset of each partition that the other query reads next; what is before is noted, or never
        will be."""
        committed = committed_offsets(self._other)
        return {} if committed is None else committed.offsets.get(self._topic, {})

    def tidy(self) -> None:
        """Remove notes that the record query is past, and the farthest of more than may be kept. To be called
        again and again: a query without records, or one that is stuck, removes nothing itself."""
        if time.monotonic() - self._tidied_at < _TIDY_SECONDS:
            return
        self._tidied_at = time.monotonic()
        committed = committed_offsets(self._records)
        begins = {} if committed is None else committed.offsets.get(self._topic, {})
        kept, size = 0, 0
        for each in sorted(self._noted(), key=lambda each: each.first - begins.get(each.partition, 0)):
            past = each.behind <= begins.get(each.partition, 0)
            if past or kept >= KEPT_FILES or size + each.size > KEPT_BYTES:
                each.path.unlink(missing_ok=True)
            else:
                kept, size = kept + 1, size + each.size

    def close(self) -> None:
        """Remove what nobody will ask for: notes are of one driver."""
        folder, mark = self.notes
        for path in Path(folder).glob(f"{mark}.*"):
            path.unlink(missing_ok=True)

    def _noted(self) -> list[Stretch]:
        folder, mark = self.notes
        return noted_stretches(Path(folder), mark)
