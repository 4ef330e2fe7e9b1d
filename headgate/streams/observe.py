"""What is seen of a stream's newest incarnation: its processes, its notes, its own report.

Everything is looked up anew each time; only what cannot be looked up is kept here: which runners this
very process has started, and since when an exit note is being waited for.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from headgate.checkpoints.layout import CheckpointLayout
from headgate.streams import handover, proc, processes
from headgate.streams.failures import Diagnosis, diagnose, diagnose_exit
from headgate.streams.model import DriverStatus, FailureClass, Phase
from headgate.streams.record import Incarnation, StreamRecord
from headgate.streams.steps import OUT_OF_SIGHT, Life, Seen
from headgate.streams.upgrade import pending

__all__ = ["Look", "Observer", "newest_claim"]

# How long a runner may take from its driver's death to the exit note, and from its launch to its lock.
_NOTE_SECONDS = 3.0
_LOG_TAIL = 32_768
_REPORTED = 1_500  # of the first line of a driver's message, which a parked stream shows


@dataclass(frozen=True, slots=True)
class Look:
    """One look: what the machine needs, the driver's report, the incarnation with its process ids."""

    seen: Seen
    incarnation: Incarnation | None
    report: DriverStatus | None = None
    report_problem: str | None = None

    @property
    def alive(self) -> bool:
        return self.seen.life is Life.ALIVE


class Observer:
    def __init__(
        self,
        folder: Callable[[str], Path],
        log: Callable[[str], Path],
        checkpoints: Path,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._log = log
        self._checkpoints = checkpoints
        self._monotonic = monotonic
        self._host = socket.gethostname()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._waiting: dict[str, float] = {}
        self._pending: dict[str, float] = {}
        self._alive: dict[str, float] = {}
        self._all_marked: list[str] | None = None

    def begin(self) -> None:
        """A new round of looks: streams at rest share one scan of the machine's processes."""
        self._all_marked = None
        for child in self._children.values():
            child.poll()  # reaps what has ended

    def launched(self, nonce: str, child: subprocess.Popen[bytes]) -> None:
        """Remember a runner that this process has started, to reap it and to know that it was started."""
        self._children[nonce] = child

    def look(self, record: StreamRecord, incarnation: Incarnation | None) -> Look:
        """The newest incarnation of a stream, as it is now."""
        folder = self._folder(record.stream)
        report, problem = _report(folder)
        claimed = newest_claim(self._checkpoints, record.pipeline)
        if incarnation is None or incarnation.ended_at is not None:
            self._drop(incarnation)
            left = record.epoch and not _waits_out_of_sight(record, incarnation) and self._leftovers(folder)
            life = Life.REMAINS if left else Life.NONE
            return Look(Seen(life, claimed_epoch=claimed), incarnation, report, problem)
        known, trouble = _with_processes(folder, incarnation)
        own = report if report is not None and report.epoch == incarnation.epoch else None
        signs = _signs(own, known, record)
        seen = replace(
            self._life(folder, known),
            claimed_epoch=claimed,
            up=own is not None and own.phase == "running",
            settles=own is not None and own.phase == "starting" and not own.lineage,
            reported_at=own.written_at if own is not None else None,
            progressed=signs.progressed,
            each_progressed=signs.each_progressed,
            healthy=signs.healthy,
            shown=signs.shown,
        )
        if seen.life is Life.DEAD:
            seen = replace(seen, diagnosis=self._diagnose(record.stream, seen, own))
        return Look(seen, known, report, problem or trouble)

    def _life(self, folder: Path, known: Incarnation) -> Seen:
        if known.host not in ("", self._host) and not _is_here(folder, known):
            return Seen(Life.ELSEWHERE, host=known.host)
        if processes.is_driver(known.driver_pid, known.driver_ticks, known.nonce):
            self._waiting.pop(known.nonce, None)
            self._pending.pop(known.nonce, None)
            since = self._alive.setdefault(known.nonce, self._monotonic())
            return Seen(Life.ALIVE, alive_seconds=self._monotonic() - since)
        self._alive.pop(known.nonce, None)
        if known.driver_pid is None:
            return self._not_known(folder, known)
        return self._after_death(folder, known)

    def _not_known(self, folder: Path, known: Incarnation) -> Seen:
        """No driver is on record: none was launched, one is about to come, or its runner died."""
        child = self._children.get(known.nonce)
        running = child is not None and child.poll() is None
        if running or processes.runners_of(known.nonce) or processes.remains(known.nonce):
            since = self._pending.setdefault(known.nonce, self._monotonic())
            return Seen(Life.PENDING, pending_seconds=self._monotonic() - since)
        exited = _exit(folder, known.epoch)
        if exited is not None or child is not None:
            self._children.pop(known.nonce, None)
            return _dead(exited)
        if handover.claimed(folder, known.epoch):
            return _dead(None)
        # Neither we nor, as far as can be seen, a supervisor before us has launched it; one that died
        # between writing the intent and the launch may have a child that is just coming up.
        return Seen(Life.NEVER if self._waited(known.nonce) else Life.PENDING)

    def _after_death(self, folder: Path, known: Incarnation) -> Seen:
        exited = _exit(folder, known.epoch)
        child = self._children.get(known.nonce)
        if child is not None and child.poll() is not None:
            self._children.pop(known.nonce)
        if exited is None and processes.runners_of(known.nonce) and not self._waited(known.nonce):
            return Seen(Life.REMAINS, settling=True)
        if processes.remains(known.nonce):
            return _dead(exited, Life.REMAINS)
        self._waiting.pop(known.nonce, None)
        return _dead(exited)

    def _drop(self, closed: Incarnation | None) -> None:
        child = self._children.get(closed.nonce) if closed else None
        if closed is not None and child is not None and child.poll() is not None:
            self._children.pop(closed.nonce)

    def _leftovers(self, folder: Path) -> bool:
        if self._all_marked is None:
            self._all_marked = proc.nonces()
        prefix = processes.marks_of(folder)
        return any(nonce.startswith(prefix) for nonce in self._all_marked)

    def _waited(self, nonce: str) -> bool:
        since = self._waiting.setdefault(nonce, self._monotonic())
        return self._monotonic() - since >= _NOTE_SECONDS

    def _diagnose(self, stream: str, seen: Seen, own: DriverStatus | None) -> Diagnosis:
        """The driver's own word counts first, then its exit status, then the last traceback in its log."""
        if own is not None and own.phase == "failed" and own.failure_class:
            text = (own.failure_message or "").strip().partition("\n")[0][:_REPORTED]
            rule = own.failure_condition or "the driver failed"
            return Diagnosis(_failure_class(own.failure_class), rule, text or "no message")
        found = diagnose_exit(seen.returncode, seen.signal)
        if found.failure is not FailureClass.UNKNOWN or seen.returncode in (None, 0):
            return found
        traceback = _last_traceback(self._log(stream))
        from_log = diagnose([], traceback) if traceback else found
        return from_log if from_log.failure is not FailureClass.UNKNOWN else found


def _waits_out_of_sight(record: StreamRecord, incarnation: Incarnation | None) -> bool:
    """A driver that could not be seen may come into sight: it is nobody's to kill before the next order."""
    ending = incarnation.ending if incarnation is not None else None
    return ending is not None and ending.how == OUT_OF_SIGHT and not record.superseded


def _is_here(folder: Path, known: Incarnation) -> bool:
    """Whether an incarnation of another host name is this machine's to judge. A host's name can change, so
    what is seen here is here. On the same kernel another container is hidden: there the folder's lock tells.
    """
    if processes.remains(known.nonce) or processes.runners_of(known.nonce):
        return True
    return known.boot_id == proc.boot_id() and not handover.held(folder)


def newest_claim(checkpoints: Path, pipeline: str) -> int:
    """The highest epoch that a driver has claimed beside the checkpoints of a pipeline; 0 without any."""
    owners = CheckpointLayout(checkpoints, pipeline).owners
    try:
        names = [entry.name for entry in owners.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return max((int(name) for name in names if name.isdigit()), default=0)


def _failure_class(name: str) -> FailureClass:
    try:
        return FailureClass(name)
    except ValueError:
        return FailureClass.UNKNOWN


def _report(folder: Path) -> tuple[DriverStatus | None, str | None]:
    try:
        return handover.read_report(folder), None
    except handover.UnreadableNote as error:
        return None, str(error)


def _exit(folder: Path, epoch: int) -> handover.ExitNote | None:
    try:
        return handover.exit_note(folder, epoch)
    except handover.UnreadableNote:
        # It says how a driver ended, not whether: as good as none.
        return None


def _dead(exited: handover.ExitNote | None, life: Life = Life.DEAD) -> Seen:
    if exited is None:
        return Seen(life)
    return Seen(life, returncode=exited.returncode, signal=exited.signal, exited_at=exited.at)


def _with_processes(folder: Path, incarnation: Incarnation) -> tuple[Incarnation, str | None]:
    """The process ids from the store, or from the runner's note, or found by the nonce."""
    if incarnation.driver_pid is not None:
        return incarnation, None
    trouble = None
    try:
        note = handover.runner_note(folder, incarnation.epoch)
    except handover.UnreadableNote as error:
        note, trouble = None, str(error)
    if note is not None and note.nonce == incarnation.nonce:
        found = replace(
            incarnation,
            runner_pid=note.runner_pid,
            runner_start=note.runner_start,
            driver_pid=note.driver_pid,
            driver_start=note.driver_start,
            driver_ticks=note.driver_ticks,
            boot_id=note.boot_id,
        )
        return found, None
    if trouble is None:
        return incarnation, None
    # The note is damaged: the oldest process with the nonce is the driver, the others are its children.
    oldest = next(iter(processes.remains(incarnation.nonce)), None)
    if oldest is None:
        return incarnation, trouble
    seen = replace(incarnation, driver_pid=oldest.pid, driver_ticks=oldest.ticks, boot_id=proc.boot_id())
    return seen, trouble


class _Signs(NamedTuple):
    progressed: bool
    each_progressed: bool
    healthy: bool
    shown: bool


def _signs(own: DriverStatus | None, known: Incarnation, record: StreamRecord) -> _Signs:
    """Signs of life in the driver's report: commits, and reports that there was nothing to do. But for a
    death that nobody can name, which is not on trial, each query has to give them: one that hangs is not
    well by the others."""
    queries = list(own.queries.values()) if own is not None else []
    commits = [query.last_commit_at for query in queries if query.last_commit_at is not None]
    # What the others committed says nothing of the query that fails each time.
    failed = own.queries.get(own.failure_query or "") if own is not None else None
    judged = commits if failed is None else [failed.last_commit_at or 0.0]
    since = record.phase_since if record.phase is Phase.RUNNING else known.started_at
    signs = [max(query.last_commit_at or 0.0, query.last_idle_at or 0.0) for query in queries]
    tasks = [query.last_task_at or 0.0 for query in queries]
    each = bool(signs) and min(signs) >= known.started_at
    # A new window whose state is too large is killed for its memory while the record query commits.
    unnamed_trial = failed is None and pending(record) is not None
    return _Signs(
        progressed=each if unnamed_trial else any(at >= known.started_at for at in judged),
        each_progressed=each,
        healthy=bool(signs) and min(signs) >= since,
        shown=bool(signs) and min(max(pair) for pair in zip(signs, tasks, strict=True)) >= since,
    )


def _last_traceback(log: Path) -> str:
    """The last traceback at the end of a log, if there is one."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(log.stat().st_size - _LOG_TAIL, 0))
            text = stream.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    # Only this incarnation's part, which begins with the runner's line.
    text = text.rpartition(" runner: epoch ")[2] or text
    return text.rpartition("Traceback (most recent call last)")[2] if "Traceback (" in text else ""
