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

from headgate.errors import HeadgateError
from headgate.replays.model import KIND, Replay, ReplayLayout, read_note, read_replay
from headgate.replays.steps import Failed, Finished, Launch, Seen, Wait, decide
from headgate.settings import Settings
from headgate.streams import handover, processes
from headgate.streams.journal import Journal
from headgate.streams.operations import Operation, note, operations_in
from headgate.streams.policy import Policy
from headgate.streams.record import Failure, Incarnation
from headgate.streams.store import StateStore

__all__ = ["ReplayKeeper", "replay_command"]

_STATES = ("requested", "running", "swapping", "discarding")
# An order that was replaced by another before any driver ran it is not carried out.
_REPLACED_SECONDS = 30.0

Command = Callable[[Replay, int], Sequence[str]]


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

    def start(self) -> None:
        threading.Thread(target=self._run, name="replays", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(self._settings.supervisor.poll_seconds)
            self.look()

    def look(self) -> None:
        """One step for each replay. One's trouble is told, and is not another's."""
        if not self._leads():
            return
        try:
            found = operations_in(self._store, KIND, _STATES)
        except HeadgateError as error:
            self._journal.write("replays wait", level="warning", error=str(error))
            return
        for operation in found:
            try:
                self._keep(operation)
            except Exception as error:  # noqa: BLE001 - the thread must outlive whatever it finds in a folder
                self._journal.write("replay trouble", level="error", replay=operation.name, error=repr(error))

    def _keep(self, operation: Operation) -> None:
        layout = ReplayLayout(self._settings.state, operation.stream, operation.name)
        if operation.state == "swapping":
            self._after_swap(operation, layout)
        elif operation.state == "discarding":
            self._discard(operation, layout)
        else:
            self._drive(operation, layout)

    def _drive(self, operation: Operation, layout: ReplayLayout) -> None:
        memory = self._memories.setdefault(operation.name, _Memory())
        seen = _look(layout, memory)
        if self._suspended():
            self._ask_to_end(layout, seen, memory)
            return
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

    def _launch(self, operation: Operation, layout: ReplayLayout, memory: _Memory, epoch: int) -> None:
        prefix = processes.nonce_prefix(layout.folder)
        if processes.kill_all(prefix):
            return  # something of an earlier one lived: nothing starts beside it
        try:
            replay = read_replay(self._settings.state, operation.name)
        except HeadgateError as error:
            self._note(operation, "failed", error.message)
            return
        self._note(operation, "running", f"driver {epoch}")
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

    def _ask_to_end(self, layout: ReplayLayout, seen: Seen, memory: _Memory) -> None:
        """The platform is suspended: the batch under way is committed, and the rest is read later."""
        known = handover.runner_note(layout.folder, seen.epoch) if seen.alive else None
        if known is not None and seen.epoch not in memory.asked:
            memory.asked.add(seen.epoch)
            processes.terminate(known.driver_pid, known.driver_ticks, known.nonce)

    def _after_swap(self, operation: Operation, layout: ReplayLayout) -> None:
        """The live stream's driver has noted what it did."""
        found = read_note(layout.swap)
        if found is not None and found["at"] >= operation.changed_at:
            why = "; ".join(found["refusals"])
            told = {"done": "", "partial": f"swapped in part: {why}"}.get(
                found["state"], f"not swapped: {why}"
            )
            self._note(operation, "swapped" if found["state"] == "done" else "done", told)
            return
        record = self._store.stream(operation.stream)
        ordered = record is not None and record.origin is not None and record.origin.replay == operation.name
        if not ordered and self._wall() - operation.changed_at > _REPLACED_SECONDS:
            self._note(operation, "done", "not swapped: another order came before it was carried out")

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
    return Seen(
        alive=started or handover.held(layout.folder),
        epoch=epoch,
        ended=handover.exit_note(layout.folder, epoch) if epoch else None,
        report=handover.read_report(layout.folder),
    )
