"""Runs what replays are ordered: a thread of the supervisor that leads, beside its loop.

A replay is no stream: it has no phase, nobody waits for it, and no alert counts it. What is known of it is
its operation in the store and the files in its folder, which say the same to any supervisor: a driver that
runs is found by the lock on the folder, one that died by its exit note, one that came to its end by its
report. What is ordered is done, whatever died in between.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from headgate.errors import HeadgateError
from headgate.replays.model import BEGUN, KIND, Replay, ReplayLayout, read_note, read_replay
from headgate.replays.steps import Failed, Finished, Launch, Seen, Wait, decide
from headgate.replays.swapping import half_done
from headgate.settings import Settings
from headgate.streams import handover, processes
from headgate.streams.journal import Journal
from headgate.streams.model import Phase
from headgate.streams.operations import Operation, note, operations_in
from headgate.streams.policy import Policy, backoff_seconds
from headgate.streams.record import Failure, Incarnation
from headgate.streams.rotation import rotate
from headgate.streams.store import StateStore

__all__ = ["ReplayKeeper", "replay_command"]

_STATES = ("requested", "running", "swapping", "discarding")
# An order that was replaced by another before any driver ran it is not carried out.
_REPLACED_SECONDS = 30.0
_REPLACED = "not swapped: another order came before it was carried out"
# Phases in which the newest order has its driver, past its start, or has none.
_AT_REST = (Phase.RUNNING, Phase.STOPPED, Phase.PARKED, Phase.RETIRED)

Command = Callable[[Replay, int], Sequence[str]]
N = TypeVar("N")


def replay_command(replay: Replay, epoch: int) -> list[str]:
    command = [sys.executable, "-m", "spark.replay", "--pipeline", replay.pipeline]
    return [*command, "--replay", replay.id, "--epoch", str(epoch)]


@dataclass(slots=True)
class _Memory:
    """Of this supervisor alone: one that comes after it begins the count of failures anew."""

    child: subprocess.Popen[bytes] | None = None
    failures: tuple[Failure, ...] = ()
    judged: int = 0  # the epoch whose end is among the failures
    next_at: float = 0.0
    launched: int = 0  # the epoch that was launched last, and how often
    launches: int = 0
    asked: set[int] = field(default_factory=set)


class ReplayKeeper:
    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        leads: Callable[[], bool],
        journal: Journal,
        *,
        suspended: Callable[[], bool] = lambda: False,
        command: Command = replay_command,
        policy: Policy | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._store = store
        self._leads = leads
        self._journal = journal
        self._suspended = suspended
        self._command = command
        self._policy = policy or Policy()
        self._wall = wall
        self._memories: dict[str, _Memory] = {}
        self._troubles: dict[str, str] = {}
        self.looked_at = wall()  # the end of the last round in which nothing of its own went wrong

    def start(self) -> None:
        threading.Thread(target=self._run, name="replays", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(self._settings.supervisor.poll_seconds)
            self.look()

    def look(self) -> None:
        """One step for each replay. One's trouble is told, and is not another's."""
        try:
            found = operations_in(self._store, KIND, _STATES) if self._leads() else []
            for operation in found:
                self._guarded(operation)
        except Exception as error:  # noqa: BLE001 - nobody would see that the thread has ended
            told = error.message if isinstance(error, HeadgateError) else repr(error)
            self._tell("", "replays wait", told)
            return
        self._tell("", "replays wait", "")
        self.looked_at = self._wall()

    def _guarded(self, operation: Operation) -> None:
        try:
            trouble = self._keep(operation)
        except Exception as error:  # noqa: BLE001 - the thread must outlive whatever it finds in a folder
            trouble = repr(error)
        self._tell(operation.name, "replay trouble", trouble)

    def _tell(self, replay: str, what: str, trouble: str) -> None:
        """Trouble is told when it comes, not at each look."""
        if trouble and self._troubles.get(replay) != trouble:
            self._journal.write(what, level="error", replay=replay, error=trouble)
        self._troubles[replay] = trouble

    def _keep(self, operation: Operation) -> str:
        """One step; what is wrong beside it."""
        layout = ReplayLayout(self._settings.state, operation.stream, operation.name)
        if operation.state == "swapping":
            self._after_swap(operation, layout)
        elif operation.state == "discarding":
            self._discard(operation, layout)
        else:
            return self._drive(operation, layout)
        return ""

    def _drive(self, operation: Operation, layout: ReplayLayout) -> str:
        memory = self._memories.setdefault(operation.name, _Memory())
        seen = _look(layout, memory)
        if seen.alive and rotate(layout.log):
            self._journal.write("log rotated", replay=operation.name)
        if self._suspended():
            self._ask_to_end(layout, seen, memory)
            return seen.unreadable
        step = decide(
            seen,
            memory.failures,
            judged=memory.judged,
            now=self._wall(),
            policy=self._policy,
            jitter=random.random(),
        )
        if isinstance(step, Finished):
            self._note(operation, "done", "its range is read")
        elif isinstance(step, Failed):
            self._note(operation, "failed", step.text)
        elif isinstance(step, Wait):
            memory.failures, memory.judged = step.failures, step.judged
            memory.next_at = max(memory.next_at, step.until)
            if seen.alive and operation.state != "running":
                self._note(operation, "running", "")
        elif isinstance(step, Launch) and self._wall() >= memory.next_at:
            self._launch(operation, layout, memory, step.epoch)
        return seen.unreadable

    def _launch(self, operation: Operation, layout: ReplayLayout, memory: _Memory, epoch: int) -> None:
        prefix = processes.nonce_prefix(layout.folder)
        if processes.kill_all(prefix):
            return  # something of an earlier one lived: nothing starts beside it
        try:
            replay = read_replay(self._settings.state, operation.name)
        except HeadgateError as error:
            self._note(operation, "failed", error.message)
            return
        self._note(operation, "running", self._launching(memory, epoch, layout))
        begun = Incarnation(
            stream=replay.id,
            epoch=epoch,
            generation=0,
            contract_hash=replay.contract_hash,
            nonce=processes.new_nonce(layout.folder, epoch),
            started_at=self._wall(),
            host=socket.gethostname(),
        )
        handover.drop_old(layout.folder, epoch)
        rotate(layout.log)
        home, env = str(self._settings.home), self._settings.env
        memory.child = processes.spawn(
            processes.Launch(
                incarnation=begun,
                folder=layout.folder,
                log=layout.log,
                home=self._settings.home,
                command=self._command(replay, epoch),
                environment={**os.environ, "HEADGATE_HOME": home, "HEADGATE_ENV": env},
            )
        )

    def _launching(self, memory: _Memory, epoch: int, layout: ReplayLayout) -> str:
        """What is told of a launch. The same epoch again waits: its runner has died before its lock."""
        memory.launches = memory.launches + 1 if epoch == memory.launched else 1
        memory.launched = epoch
        memory.next_at = self._wall() + backoff_seconds(memory.launches, self._policy, random.random())
        again = f", try {memory.launches}: no runner of it came up, see {layout.log}"
        return f"driver {epoch}{again if memory.launches > 1 else ''}"

    def _ask_to_end(self, layout: ReplayLayout, seen: Seen, memory: _Memory) -> None:
        """The platform is suspended: the batch under way is committed, and the rest is read later."""
        if not seen.alive or seen.epoch in memory.asked:
            return
        known = handover.runner_note(layout.folder, seen.epoch)
        if known is not None:
            memory.asked.add(seen.epoch)
            processes.terminate(known.driver_pid, known.driver_ticks, known.nonce)

    def _after_swap(self, operation: Operation, layout: ReplayLayout) -> None:
        """The live stream's driver has noted what it did, in a generation after the one of the order."""
        found, before = read_note(layout.swap) or {}, (read_note(layout.ordered) or {}).get("after", 0)
        begun = found.get("state") == BEGUN
        if found.get("generation", -1) > before and not begun:
            why = "; ".join(found["refusals"])
            told = {"done": "", "partial": f"swapped in part: {why}"}.get(
                found["state"], f"not swapped: {why}"
            )
            self._note(operation, "swapped" if found["state"] == "done" else "done", told)
        elif self._replaced(operation):
            half = begun and half_done(self._settings, operation.stream, operation.name)
            told = "half done: its tables are finished by the next start of the stream" if half else _REPLACED
            self._note(operation, "swapping" if half else "done", told)

    def _replaced(self, operation: Operation) -> bool:
        """Whether no driver carries a swap out any more, nor is about to."""
        record = self._store.stream(operation.stream)
        ordered = record is not None and record.origin is not None and record.origin.replay == operation.name
        moves = record is not None and record.phase not in _AT_REST
        return not ordered and not moves and self._wall() - operation.changed_at > _REPLACED_SECONDS

    def _discard(self, operation: Operation, layout: ReplayLayout) -> None:
        memory = self._memories.setdefault(operation.name, _Memory())
        killed = processes.kill_all(processes.nonce_prefix(layout.folder), runners=True)
        if killed or _look(layout, memory).alive:
            return
        layout.clear()
        self._memories.pop(operation.name, None)
        self._note(operation, "discarded", "")

    def _note(self, operation: Operation, state: str, detail: str) -> None:
        at = self._wall()
        note(
            self._store,
            operation.stream,
            KIND,
            operation.name,
            state,
            actor="supervisor",
            at=at,
            detail=detail,
        )
        self._journal.write("replay", replay=operation.name, state=state, detail=detail)


def _look(layout: ReplayLayout, memory: _Memory) -> Seen:
    """What the folder says. A runner that was just started may not hold the lock yet."""
    started = memory.child is not None and memory.child.poll() is None
    names = [path.stem.partition("-")[2] for path in layout.folder.glob("runner-*.lock")]
    epoch = max((int(name) for name in names if name.isdigit()), default=0)
    ended, torn = _note_of(lambda: handover.exit_note(layout.folder, epoch) if epoch else None)
    report, damaged = _note_of(lambda: handover.read_report(layout.folder))
    return Seen(
        alive=started or handover.held(layout.folder),
        epoch=epoch,
        ended=ended,
        report=report,
        unreadable="; ".join(filter(None, (torn, damaged))),
    )


def _note_of(read: Callable[[], N | None]) -> tuple[N | None, str]:
    """A note that a full disk or a crash has torn says nothing, and must not keep its replay for ever."""
    try:
        return read(), ""
    except handover.UnreadableNote as error:
        return None, str(error)
