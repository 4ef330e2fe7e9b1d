"""Runs one producer from its first record to its summary: pace, signals, progress, the end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from headgate.errors import HeadgateError, UnavailableError
from producers.core import Producer
from producers.counts import Counts
from producers.inputs import Outgoing
from producers.pace import Pace
from producers.spool import SpoolFullError

__all__ = ["Order", "Stop", "Summary", "deliver", "noted", "shortfall"]

STOP_SECONDS = 10.0  # after SIGTERM, less than a process manager waits before it kills
PROGRESS_SECONDS = 5.0
FIRST_PROGRESS_SECONDS = 2.0


class Stop:
    """SIGTERM and SIGINT ask for an end; asked twice, the end comes at once, by way of the spool."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> bool:
        return self.asked > 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked += 1


@dataclass(frozen=True, slots=True)
class Order:
    """What to send. `endless` inputs stop when they are asked to; others when they are all sent."""

    pipeline: str
    records: Iterator[Outgoing]
    rate: float | None
    endless: bool
    key: bytes | None  # of records that bring none
    headers: tuple[tuple[str, bytes], ...] = ()
    fraction: Callable[[], float] | None = None  # of the input that is read
    left_out: Callable[[], list[int]] | None = None  # lines of the input that are longer than Kafka takes


@dataclass(frozen=True, slots=True)
class Summary:
    counts: Counts
    seconds: float
    stopped: bool
    complete: bool  # every record of the input was taken on
    full: SpoolFullError | None = None  # why no more was taken on

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self.counts),
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped,
            "complete": self.complete,
        }

    def text(self) -> str:
        counts = self.counts
        parts = [f"{counts.sent} sent", f"{counts.delivered} delivered", f"{counts.spooled} in the spool"]
        if counts.unsaved:
            parts.append(f"{counts.unsaved} lost")
        if counts.refused:
            parts.append(f"{counts.refused} refused")
        rate = f", {counts.delivered / self.seconds:,.0f}/s" if self.seconds >= 1 else ""
        return f"{', '.join(parts)} in {self.seconds:.1f} s{rate}"


def deliver(
    order: Order, producer: Producer, stop: Stop, say: Callable[[str], None], *, flush_seconds: float
) -> Summary:
    """Send until the input ends or a stop is asked, then flush; what is left is on disk."""
    begun = time.monotonic()
    complete, full = False, None
    with stop.listening():
        try:
            complete = _send_all(order, producer, stop, _Progress(order, producer, say))
            if complete and not stop():
                producer.flush(flush_seconds)
        except SpoolFullError as error:
            full = error
        finally:
            counts = producer.close(_closing_seconds(producer, stop, flush_seconds))
    return Summary(counts, time.monotonic() - begun, stop(), complete, full)


def _closing_seconds(producer: Producer, stop: Stop, flush_seconds: float) -> float:
    if stop.asked:
        return STOP_SECONDS if stop.asked == 1 else 0.0
    return flush_seconds if producer.counts.unsaved else 0.0


def _send_all(order: Order, producer: Producer, stop: Stop, progress: _Progress) -> bool:
    """True when the input has ended. Raises SpoolFullError when one that can be read again has to wait."""
    pace = Pace(order.rate, time.monotonic())
    full = False
    kept: Outgoing | None = None  # of a file: read, and not taken on yet
    while not stop():
        try:
            producer.poll()
            for _ in range(0 if full and not producer.online else pace.due(time.monotonic())):
                kept = kept or next(order.records, None)
                if kept is None:
                    return True
                producer.send(kept.value, kept.key or order.key, order.headers)
                kept = None
            full = False
        except SpoolFullError:
            # Made-up records can wait to be made up; a file is left at a known record, or waits for the
            # spool to become smaller.
            if not order.endless and not producer.online:
                raise
            kept = None if order.endless else kept
            full = True
        progress()
        pause = pace.pause(time.monotonic())
        if pause > 0 or full:
            producer.wait(min(pause or 0.2, 0.2))
    return False


def shortfall(order: Order, summary: Summary) -> HeadgateError | None:
    """What is to be said of records that are neither delivered nor on disk; None when there are none."""
    counts, full = summary.counts, summary.full
    if counts.unsaved == 0 and full is None:
        return None
    again = min(counts.first_unsaved or counts.sent + 1, counts.sent + 1)
    help_ = "make room on the disk, start Kafka"
    if counts.spooled:
        help_ += f", and run `headgate produce {order.pipeline} --flush-spool`"
    if order.fraction is not None:
        help_ += f"; then send the file from its record {again} on"
    reason = full.message if full is not None else "Kafka did not answer, and the disk has no room"
    lost = f"; {counts.unsaved} records that were taken on are lost" if counts.unsaved else ""
    not_taken = "" if order.endless else f"; record {counts.sent + 1} and those after it were not taken on"
    return UnavailableError(
        reason + lost + (not_taken if not summary.complete else ""),
        expected=full.expected if full is not None else "Kafka to answer, or a disk with room",
        help=help_,
    )


class _Progress:
    """Says how far it is, when it takes long; an endless producer with a pace says nothing."""

    def __init__(self, order: Order, producer: Producer, say: Callable[[str], None]) -> None:
        self._order = order
        self._producer = producer
        self._say = say
        self._begun = time.monotonic()
        self._next = self._begun + FIRST_PROGRESS_SECONDS

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._next or self._order.endless:
            return
        self._next = now + PROGRESS_SECONDS
        counts = self._producer.counts
        share = f" ({self._order.fraction():.0%} of the file)" if self._order.fraction else ""
        rate = counts.delivered / (now - self._begun)
        spooled = f", {counts.spooled} in the spool" if counts.spooled else ""
        self._say(f"{counts.sent} sent{share}, {counts.delivered} delivered{spooled}, {rate:,.0f}/s")


@contextmanager
def noted(state: Path, pipeline: str, source: str, port: int, say: Callable[[str], None]) -> Iterator[None]:
    """While it runs, a file says where this producer's metrics are; the exporter looks there."""
    note = state / "producers" / f"{pipeline}-{source}-{os.getpid()}.json"
    draft = note.with_suffix(".tmp")
    content = {"pipeline": pipeline, "source": source, "pid": os.getpid(), "metrics_port": port}
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(content), encoding="utf-8")
        draft.replace(note)
    except OSError as error:
        # A full disk is no reason not to send: above all not what is to make room on it.
        say(f"{note} cannot be written ({error.strerror}): the exporter does not see this producer")
    try:
        yield
    finally:
        with suppress(OSError):  # the exporter takes one of a process that is gone for none
            draft.unlink(missing_ok=True)
            note.unlink(missing_ok=True)
