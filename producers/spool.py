"""Records that could not be delivered, kept on disk in order until the broker has them.

    <folder>/<owner>/lock             held while its process lives
    <folder>/<owner>/00000001.seg     records, framed with length and checksum, append only
    <folder>/<owner>/00000001.ack     up to where the broker has acknowledged them
    <folder>/<owner>/00000001.damaged what could not be read, kept for a person
    <folder>/<owner>/refused.seg      records that Kafka will never take; sent again by nobody

Each process has a folder of its own, so that two producers never write one file. A process that
starts takes over the folders whose owner is gone and reads them first, the oldest before the others.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Self

from headgate.errors import ServiceError, UnavailableError
from producers.records import Framed, Record, frame
from producers.segments import (
    Handed,
    OwnerFolder,
    Segment,
    adopt,
    alone,
    disk_for,
    keep_apart,
    leave,
    new_segment,
    note,
    own_folder,
    read,
    remove,
    write_whole,
)

__all__ = ["Spool", "SpoolFullError"]

SEGMENT_BYTES = 16 * 1024 * 1024
LIMIT_BYTES = 1024 * 1024 * 1024


class SpoolFullError(UnavailableError):
    """The broker is away for longer than the disk space that was set aside for it."""


class Spool:
    """One producer's spool. Not for several threads.

    `append` and `sync` write; `take` hands out records from the oldest on, `acknowledge` forgets them,
    `rewind` makes `take` begin again with what is not acknowledged.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit_bytes: int = LIMIT_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        report: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._segment_bytes = segment_bytes
        self._writing: FileIO | None = None
        self._numbers = 0
        self._handed: deque[Handed] = deque()
        self._skip: set[tuple[Path, int]] = set()
        self._reading: Iterator[Handed] | None = None
        self._unread = 0
        self._told = False
        self._report = report
        self._own: OwnerFolder | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with alone(folder):
                self._folders = adopt(folder, report)
        except OSError as error:
            raise UnavailableError(
                f"the spool {folder} cannot be used: {error.strerror}",
                expected="a folder that can be written",
            ) from error
        self._unread = self.records

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def records(self) -> int:
        """Records that no acknowledgement has come for."""
        return sum(segment.records for folder in self._folders for segment in folder.segments)

    @property
    def unread(self) -> int:
        """Records that `take` has still to hand out."""
        return self._unread

    @property
    def bytes(self) -> int:
        return sum(segment.size for folder in self._folders for segment in folder.segments)

    # -- writing ----------------------------------------------------------------------------------

    def append(self, records: Iterable[Record], *, beyond_limit: bool = False) -> None:
        """Write records at the end. Raises SpoolFullError at the first that does not fit.

        `beyond_limit` is for records that were taken on already and are bounded by the send buffer.
        """
        for record in records:
            data = frame(record)
            if not beyond_limit and self.bytes + len(data) > self._limit:
                self.sync()
                raise self._full(f"at most {self._limit} bytes while Kafka does not answer")
            segment, file = self._segment_to_write()
            try:
                write_whole(file, data, segment.size)
            except OSError as error:
                if os.fstat(file.fileno()).st_size != segment.size:
                    self._let_go()  # it ends with half a record: nothing is written behind that
                raise self._full(disk_for(error)) from error
            segment.size += len(data)
            segment.records += 1
            self._unread += 1

    def _full(self, expected: str) -> SpoolFullError:
        return SpoolFullError(
            f"the spool {self._folder} is full: {self.records} records in {self.bytes} bytes",
            expected=expected,
            help="start Kafka again and run `headgate produce PIPELINE --flush-spool`",
        )

    def sync(self) -> None:
        """After this the appended records survive a power cut. Raises SpoolFullError when they may not."""
        if self._writing is None:
            return
        try:
            os.fsync(self._writing.fileno())
        except OSError as error:
            self._let_go()
            raise self._full(disk_for(error)) from error

    def refuse(self, record: Record, reason: str) -> Path:
        """Keep a record that Kafka will never take where a person finds it. Returns the file.

        Raises SpoolFullError.
        """
        marked = record._replace(headers=(*record.headers, ("headgate.refused", reason.encode())))
        try:
            return keep_apart(self._mine(), marked)
        except OSError as error:
            raise self._full(disk_for(error)) from error

    def _mine(self) -> OwnerFolder:
        """This process's folder, made when it is needed: a spool can be sent while the disk is full."""
        if self._own is None:
            with alone(self._folder):
                self._own = own_folder(self._folder)
            self._folders.append(self._own)
        return self._own

    def _segment_to_write(self) -> tuple[Segment, FileIO]:
        if self._writing is not None and self._own is not None:
            if self._own.segments[-1].size < self._segment_bytes:
                return self._own.segments[-1], self._writing
            self._rotate()
        try:
            own = self._mine()
            number = self._numbers = self._numbers + 1
            segment, self._writing = new_segment(own.path / f"{number:08d}.seg")
        except OSError as error:
            raise self._full(disk_for(error)) from error
        own.segments.append(segment)
        return segment, self._writing

    def _rotate(self) -> None:
        self.sync()
        self._let_go()

    def _let_go(self) -> None:
        """Write no more to the current file."""
        file, self._writing = self._writing, None
        if file is not None:
            with contextlib.suppress(OSError):  # what it holds was written, or is told as not written
                file.close()

    # -- reading ----------------------------------------------------------------------------------

    def take(self) -> Handed | None:
        """The next record to send again, or None when all are handed out."""
        while self._unread > 0:
            handed = self._next()
            if handed is None:
                raise ServiceError(
                    f"the spool {self._folder} has changed: {self._unread} records cannot be read any more",
                    help="start the producer again: it says which file is damaged, and where",
                )
            self._unread -= 1
            self._handed.append(handed)
            place = (handed.segment.path, handed.start)
            if place not in self._skip:
                return handed
            self._skip.discard(place)
            self.acknowledge(handed)
        return None

    def _next(self) -> Handed | None:
        if self._reading is not None and (handed := next(self._reading, None)) is not None:
            return handed
        self._rotate()  # what is read is never written to
        self._reading = self._read_on()
        return next(self._reading, None)

    def acknowledge(self, handed: Handed) -> None:
        """The broker has it. Its file goes when all before it and the rest of the file have arrived."""
        handed.done = True
        moved: Segment | None = None
        while self._handed and self._handed[0].done:
            first = self._handed.popleft()
            if moved is not None and moved is not first.segment:
                self._settle(moved)
            moved = first.segment
            moved.acked = first.end
            moved.records -= 1
        if moved is not None:
            self._settle(moved)

    def rewind(self) -> None:
        """Begin again with the oldest record that is not acknowledged; arrived ones are left out."""
        self._unread += len(self._handed)
        self._skip |= {(handed.segment.path, handed.start) for handed in self._handed if handed.done}
        self._handed.clear()
        self._reading = None

    def _read_on(self) -> Iterator[Handed]:
        last = self._handed[-1] if self._handed else None
        skipping = last is not None
        for folder in list(self._folders):
            for segment in list(folder.segments):
                start = segment.acked
                if skipping and last is not None:
                    if segment is not last.segment:
                        continue
                    skipping = False
                    start = last.end
                for item in read(segment.path, start):
                    if isinstance(item, Framed):
                        yield Handed(item.record, segment, item.start, item.end)

    def _settle(self, segment: Segment) -> None:
        """Note how far a segment is acknowledged, on disk at times, and remove it at its end."""
        end = segment.damage.offset if segment.damage else segment.size
        if segment.acked < end:
            if segment.records % 1000 == 0:
                self._on_disk(note, segment)
            return
        for folder in self._folders:
            if segment in folder.segments:
                folder.segments.remove(segment)
        self._on_disk(remove, segment)

    def _on_disk(self, change: Callable[[Segment], None], segment: Segment) -> None:
        """What is only noted for a later start: a disk that does not take it costs repeats, not records."""
        try:
            change(segment)
        except OSError as error:
            if not self._told:
                self._told = True
                self._report(
                    f"{segment.path}: what has arrived cannot be noted ({error.strerror}); "
                    "after a restart some records can be sent again, with the same headgate.id"
                )

    def close(self) -> None:
        """Write all to disk and let go. Folders without records are removed. Raises SpoolFullError."""
        try:
            self._rotate()
        finally:
            folders, self._folders = self._folders, []
            with alone(self._folder):
                for folder in folders:
                    for segment in folder.segments:
                        if segment.acked or not segment.records:
                            self._on_disk(note if segment.records else remove, segment)
                    leave(folder)
