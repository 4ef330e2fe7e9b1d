"""One stream in one round: look, decide, write down, act; until there is nothing left but to wait."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from headgate.contract.frozen import Applied, ContractStore
from headgate.errors import HeadgateError
from headgate.settings import Settings
from headgate.streams import operations, processes, upgrade
from headgate.streams.clearance import Ask, Preflights, ask_preflight
from headgate.streams.drain import left_of
from headgate.streams.exits import ExitWatch
from headgate.streams.jobs import Jobs
from headgate.streams.journal import Journal
from headgate.streams.launch import Launcher
from headgate.streams.machine import decide
from headgate.streams.model import Event
from headgate.streams.observe import Look, Observer
from headgate.streams.policy import Policy
from headgate.streams.record import Incarnation, StreamRecord, event
from headgate.streams.rotation import rotate
from headgate.streams.spares import Spares, memory_wanted
from headgate.streams.steps import Effect, Life, Seen, Step
from headgate.streams.store import StateStore
from headgate.streams.trial import way_back_of
from headgate.streams.watch import Conditions, ProgressWatch, conditions

__all__ = ["Reconciler", "Round"]

# A stream takes at most a few steps at once (stop, signal; close, start); more would be a loop.
_STEPS_PER_ROUND = 6


@dataclass(frozen=True, slots=True)
class Round:
    """What holds for all streams of one round."""

    lease_epoch: int
    suspended: bool


class Reconciler:
    """Everything that a supervisor does to streams; it is told whether it may, and knows no loop."""

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        launcher: Launcher,
        *,
        policy: Policy,
        journal: Journal,
        wake: Callable[[], None],
        ask: Ask | None = None,
        spares: Spares,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._spares = spares
        self._spare_after = settings.supervisor.spare_after_seconds
        self._store = store
        self._launcher = launcher
        self._policy = policy
        self._journal = journal
        self._wake = wake
        self._wall = wall
        self._jitter = jitter
        self._observer = Observer(launcher.folder, launcher.log, settings.checkpoints)
        self._watch = ProgressWatch(policy.stall_floor)
        self._exits = ExitWatch(wake)
        self._preflights = Preflights(ask or ask_preflight(settings), wake, journal)
        self._left_of = left_of(settings)
        self._way_back_of = way_back_of(settings)
        self._contracts = ContractStore(settings.state)
        self._jobs = Jobs(self._contracts)
        self._applied: dict[str, Applied] = {}
        self._known: set[str] = set()
        self._looks: dict[str, tuple[Look, Conditions]] = {}
        self._troubles: dict[str, str] = {}

    def last_look(self, stream: str) -> tuple[Look, Conditions] | None:
        """The newest look at a stream, with what is wrong beside its phase."""
        found = self._looks.get(stream)
        trouble = self._troubles.get(stream)
        if found is None or trouble is None:
            return found
        return found[0], {**found[1], "supervision": trouble}

    def note_trouble(self, stream: str, trouble: str | None) -> None:
        """What keeps this supervisor from looking after a stream; None when nothing does."""
        if trouble is None:
            self._troubles.pop(stream, None)
        else:
            self._troubles[stream] = trouble

    def forget(self) -> None:
        """The lease is new: what runs is adopted anew."""
        self._known.clear()

    def begin(self) -> None:
        """A new round: what all streams share is looked up once."""
        self._observer.begin()
        self._applied = self._contracts.applied()

    def spare_memory(self, records: Sequence[StreamRecord]) -> str | None:
        """The memory that a driver in reserve should have now, if one should be there."""
        quiet = self._spare_after
        return memory_wanted(records, self._jobs.memory, quiet=quiet, now=self._wall())

    def close(self) -> None:
        self._exits.close()

    def reconcile(self, record: StreamRecord, now: Round) -> None:
        """Bring one stream a step nearer. Raises StaleRecord when an order came in between."""
        for _ in range(_STEPS_PER_ROUND):
            incarnation = self._store.incarnation(record.stream, record.epoch) if record.epoch else None
            look = self._look(record, incarnation, now)
            self._adopt(record, incarnation, look, now)
            step = decide(
                record,
                look.seen,
                now=self._wall(),
                policy=self._jobs.policy(record, self._policy),
                jitter=self._jitter(),
                suspended=now.suspended,
            )
            if step is None:
                self._note_conditions(record, now)
                self._after(record, look)
                return
            record = self._carry_out(record, look, step, now)
            if step.event is None:
                return  # an effect alone, which takes its time

    def _look(self, record: StreamRecord, incarnation: Incarnation | None, now: Round) -> Look:
        look = self._observer.look(record, incarnation)
        look = replace(look, seen=self._beside(record, look.seen))
        at = self._wall()
        if look.report is not None:
            self._watch.note(look.report)
        silence = self._watch.stalled(record, look.report, trigger=self._jobs.trigger(record), now=at)
        seen = replace(look.seen, waited_at=self._watch.waited_at(record.stream))
        if silence is not None:
            seen = replace(seen, stalled=silence[0], stalled_since=silence[1])
        look = replace(look, seen=seen)
        applied = self._applied.get(record.pipeline)
        found = conditions(
            record,
            look.report,
            problem=look.report_problem,
            stalled=silence[0] if silence else None,
            applied_hash=applied.hash if applied else None,
            suspended=now.suspended,
            lost=look.seen.back.lost,
            policy=self._policy,
            now=at,
        )
        look = replace(look, seen=replace(look.seen, settled=found.get("stable")))
        self._looks[record.stream] = (look, found)
        return look

    def _beside(self, record: StreamRecord, seen: Seen) -> Seen:
        """What is not seen of the driver."""
        left = None
        if record.draining and record.drain is not None:
            left = self._left_of(record.pipeline, record.contract_hash, record.drain.ends)
        return replace(
            seen,
            preflight=self._preflights.answer(record),
            left=left,
            applied=record.pipeline in self._applied,
            back=self._way_back_of(record),
        )

    def _adopt(self, record: StreamRecord, stored: Incarnation | None, look: Look, now: Round) -> None:
        """Write down the processes of a new driver; say so when an old one is found alive."""
        found = look.incarnation
        if found is not None and found != stored:
            self._store.note_processes(found, lease_epoch=now.lease_epoch)
        if look.alive and found is not None and found.driver_pid is not None:
            self._exits.watch(found.driver_pid, found.nonce)
        if record.stream in self._known:
            return
        self._known.add(record.stream)
        if look.alive and found is not None:
            detail = f"driver {found.driver_pid} of epoch {found.epoch} was found alive"
            self._tell(event(record, "adopted", self._wall(), "supervisor", detail))

    def _carry_out(self, record: StreamRecord, look: Look, step: Step, now: Round) -> StreamRecord:
        try:
            return self._carried_out(record, look, step, now)
        finally:
            self._spares.settle()

    def _carried_out(self, record: StreamRecord, look: Look, step: Step, now: Round) -> StreamRecord:
        """A start is written down first; a signal is sent first."""
        begun = None
        if step.effect is Effect.SPAWN:
            if step.record.epoch != record.epoch:
                spare = self._spares.offer(self._jobs.memory(step.record))
                begun = self._launcher.plan(step.record, self._wall(), spare)
        elif step.effect is Effect.PREFLIGHT:
            self._preflights.begin(record)
        elif step.effect is Effect.WITHDRAW:
            self._contracts.withdraw(record.pipeline)
            self._applied.pop(record.pipeline, None)
        elif step.effect is not None:
            self._act(record, look, step.effect)
        before = record
        if step.record is not record or step.event is not None:
            record = self._store.save(
                record,
                step.record,
                events=[step.event] if step.event else [],
                begun=begun,
                ended=step.ending,
                at=self._wall(),
                lease_epoch=now.lease_epoch,
            )
            if step.event is not None:
                self._journal.write_event(step.event)
        self._note_upgrade(before, record)
        if step.effect is Effect.SPAWN:
            self._spawn(record)
        return record

    def _note_upgrade(self, before: StreamRecord, after: StreamRecord) -> None:
        moved = upgrade.told(before, after)
        if moved is not None:
            name, state, detail = moved
            actor, at = after.ordered_by, self._wall()
            operations.note(
                self._store, after.stream, "upgrade", name, state, actor=actor, at=at, detail=detail
            )

    def _spawn(self, record: StreamRecord) -> None:
        intent = self._store.incarnation(record.stream, record.epoch)
        if intent is None:
            raise HeadgateError(f"stream {record.stream}: no incarnation is written down for {record.epoch}")
        left = processes.remains(processes.marks_of(self._launcher.folder(record.stream)))
        if left:
            # Seen dead and yet something lives: nothing starts beside it.
            self._act(record, None, Effect.SWEEP)
            self._wake()
            return
        runner = self._launcher.launch(record, intent, self._spares.hand_over)
        self._observer.launched(intent.nonce, runner)

    def _act(self, record: StreamRecord, look: Look | None, effect: Effect) -> None:
        prefix = processes.marks_of(self._launcher.folder(record.stream))
        known = look.incarnation if look else None
        if effect is Effect.SIGNAL and known is not None and known.driver_pid and known.driver_ticks:
            processes.terminate(known.driver_pid, known.driver_ticks, known.nonce)
        elif effect in (Effect.KILL, Effect.SWEEP):
            pending = look is not None and look.seen.life is Life.PENDING
            killed = processes.kill_all(prefix, runners=pending)
            self._journal.write("killed", stream=record.stream, epoch=record.epoch, processes=killed)
            self._wake_soon()

    def _wake_soon(self) -> None:
        """Something is dying: look whether it is dead without waiting for the next poll."""
        timer = threading.Timer(0.1, self._wake)
        timer.daemon = True
        timer.start()

    def _note_conditions(self, record: StreamRecord, now: Round) -> None:
        """Coming and going of conditions are events; their words change all the time and are not."""
        _, found = self._looks[record.stream]
        names = tuple(sorted(found))
        if names == record.conditions:
            return
        at = self._wall()
        came = [f"{name}: {found[name]}" for name in names if name not in record.conditions]
        went = [f"{name}: no more" for name in record.conditions if name not in names]
        notes = [event(record, "condition", at, "supervisor", text) for text in [*came, *went]]
        changed = replace(record, conditions=names)
        self._store.save(record, changed, events=notes, lease_epoch=now.lease_epoch)
        for note in notes:
            self._journal.write_event(note)

    def _after(self, record: StreamRecord, look: Look) -> None:
        if look.seen.life is Life.REMAINS:
            self._wake_soon()
        elif look.alive and rotate(self._launcher.log(record.stream)):
            self._journal.write("log rotated", stream=record.stream)

    def _tell(self, happened: Event) -> None:
        self._store.append(happened)
        self._journal.write_event(happened)
