"""The reconcile loop: look, decide, write down, act; again and again, for each stream.

Level-triggered: nothing is remembered between rounds that the store and the machine do not say. So a
supervisor that was killed anywhere goes on where it was, and what runs is adopted by being seen. Its own
end touches no driver. All errors are caught in one place per stream: one stream's trouble is not
another's, and a store that is away stops no driver.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from headgate.contract.frozen import ContractStore
from headgate.contract.model import seconds
from headgate.errors import HeadgateError, NotFoundError, UnavailableError
from headgate.settings import Settings
from headgate.streams import processes
from headgate.streams.journal import Journal
from headgate.streams.launch import Launcher
from headgate.streams.lease import Lease, SupervisorLease
from headgate.streams.machine import decide
from headgate.streams.model import Event, Phase
from headgate.streams.observe import Look, Observer
from headgate.streams.policy import Policy
from headgate.streams.record import Incarnation, StreamRecord
from headgate.streams.statements import StaleRecord
from headgate.streams.steps import Effect, Life, Step
from headgate.streams.store import LeaseLost, StateStore
from headgate.streams.watch import Conditions, ProgressWatch, conditions

__all__ = ["Health", "Supervisor"]

# A stream takes at most a few steps at once (stop, signal; close, start); more would be a loop.
_STEPS_PER_ROUND = 6
_DEFAULT_TRIGGER = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """What /healthz tells."""

    role: str  # leader | standby
    last_round_at: float
    rounds: int
    suspended: bool
    lease_epoch: int | None
    trouble: str | None


class Supervisor:
    """Owns the drivers of one state folder while it holds the lease on the store."""

    def __init__(
        self,
        settings: Settings,
        store: StateStore,
        lease: SupervisorLease,
        launcher: Launcher,
        *,
        policy: Policy | None = None,
        journal: Journal | None = None,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._store = store
        self._leasing = lease
        self._launcher = launcher
        self._policy = policy or Policy()
        self._journal = journal or Journal()
        self._wall = wall
        self._jitter = jitter
        self._observer = Observer(launcher.folder, launcher.log, settings.checkpoints)
        self._watch = ProgressWatch()
        self._contracts = ContractStore(settings.state)
        self._triggers: dict[str, float] = {}
        self._wake = threading.Event()
        self._over = threading.Event()
        self._suspended = threading.Event()
        self._lease: Lease | None = None
        self._known: set[str] = set()
        self._looks: dict[str, tuple[Look, Conditions]] = {}
        self._rounds = 0
        self._last_round = 0.0
        self._trouble: str | None = None

    # For the API's threads

    @property
    def lease_epoch(self) -> int | None:
        return self._lease.epoch if self._lease else None

    @property
    def suspended(self) -> bool:
        return self._suspended.is_set()

    def wake(self) -> None:
        """Reconcile now rather than at the next poll."""
        self._wake.set()

    def suspend(self) -> None:
        self._suspended.set()
        self.wake()

    def resume(self) -> None:
        self._suspended.clear()
        self.wake()

    def health(self) -> Health:
        role = "leader" if self._lease else "standby"
        return Health(role, self._last_round, self._rounds, self.suspended, self.lease_epoch, self._trouble)

    def last_look(self, stream: str) -> tuple[Look, Conditions] | None:
        return self._looks.get(stream)

    def end(self) -> None:
        """Leave the loop; drivers run on."""
        self._over.set()
        self.wake()

    # The loop

    def run(self) -> None:
        """Reconcile until `end()`."""
        while not self._over.is_set():
            self._wake.clear()
            self.round()
            self._wake.wait(self._settings.supervisor.poll_seconds)
        try:
            self._leasing.release()
        except UnavailableError as error:
            self._journal.write("lease not released", level="warning", error=str(error))

    def round(self) -> None:
        """One look at every stream."""
        try:
            if self._take_lease():
                self._observer.begin()
                for record in self._store.streams():
                    self._guarded(record)
            self._trouble = None
        except UnavailableError as error:
            # Drivers go on; nothing is started while no intent can be written down.
            self._report("store unavailable", error)
        except LeaseLost as error:
            self._lease = None
            self._report("lease lost", error)
        self._rounds += 1
        self._last_round = self._wall()

    def _take_lease(self) -> bool:
        before, self._lease = self._lease, self._leasing.hold()
        if self._lease is None:
            if before is not None:
                self._journal.write("lease lost", level="warning")
            self._known.clear()
            return False
        if before is None or before.epoch != self._lease.epoch:
            self._journal.write("lease taken", epoch=self._lease.epoch)
            self._known.clear()
        return True

    def _guarded(self, record: StreamRecord) -> None:
        try:
            self._reconcile(record)
        except StaleRecord:
            self.wake()  # an order came in between: look again at once
        except (UnavailableError, LeaseLost):
            raise
        except (HeadgateError, OSError, ValueError) as error:
            self._report("stream cannot be reconciled", error, stream=record.stream)

    def _reconcile(self, record: StreamRecord) -> None:
        for _ in range(_STEPS_PER_ROUND):
            incarnation = self._store.incarnation(record.stream, record.epoch) if record.epoch else None
            look = self._look(record, incarnation)
            self._adopt(record, incarnation, look)
            step = decide(
                record,
                look.seen,
                now=self._wall(),
                policy=self._policy,
                jitter=self._jitter(),
                suspended=self.suspended,
            )
            if step is None:
                self._note_conditions(record)
                return
            record = self._carry_out(record, look, step)
            if step.event is None:
                return  # an effect alone, which takes its time

    def _look(self, record: StreamRecord, incarnation: Incarnation | None) -> Look:
        look = self._observer.look(record, incarnation)
        now = self._wall()
        if look.report is not None:
            self._watch.note(look.report)
        silence = self._watch.stalled(record, look.report, trigger=self._trigger(record), now=now)
        if silence is not None:
            seen = replace(look.seen, stalled=silence[0], stalled_since=silence[1])
            look = replace(look, seen=seen)
        applied = self._contracts.applied().get(record.pipeline)
        found = conditions(
            record,
            look.report,
            problem=look.report_problem,
            stalled=silence[0] if silence else None,
            applied_hash=applied.hash if applied else None,
            suspended=self.suspended,
            now=now,
        )
        self._looks[record.stream] = (look, found)
        return look

    def _adopt(self, record: StreamRecord, stored: Incarnation | None, look: Look) -> None:
        """Write down the processes of a new driver; say so when an old one is found alive."""
        found = look.incarnation
        if found is not None and found != stored:
            self._store.note_processes(found, lease_epoch=self.lease_epoch)
        if record.stream in self._known:
            return
        self._known.add(record.stream)
        if look.alive and found is not None:
            detail = f"driver {found.driver_pid} of epoch {found.epoch} was found alive"
            self._tell(_event(record, "adopted", self._wall(), detail))

    def _carry_out(self, record: StreamRecord, look: Look, step: Step) -> StreamRecord:
        """A start is written down first; a signal is sent first."""
        begun = None
        if step.effect is Effect.SPAWN:
            if step.record.epoch != record.epoch:
                begun = self._launcher.plan(step.record, self._wall())
        elif step.effect is not None:
            self._act(record, look, step.effect)
        if step.record is not record or step.event is not None:
            record = self._store.save(
                record,
                step.record,
                events=[step.event] if step.event else [],
                begun=begun,
                ended=step.ending,
                at=self._wall(),
                lease_epoch=self.lease_epoch,
            )
            if step.event is not None:
                self._write(step.event)
        if step.effect is Effect.SPAWN:
            self._spawn(record)
        return record

    def _spawn(self, record: StreamRecord) -> None:
        intent = self._store.incarnation(record.stream, record.epoch)
        if intent is None:
            raise HeadgateError(f"stream {record.stream}: no incarnation is written down for {record.epoch}")
        left = processes.remains(processes.nonce_prefix(self._launcher.folder(record.stream)))
        if left:
            # Seen dead and yet something lives: nothing starts beside it.
            self._act(record, None, Effect.SWEEP)
            self.wake()
            return
        self._observer.launched(intent.nonce, self._launcher.launch(record, intent))

    def _act(self, record: StreamRecord, look: Look | None, effect: Effect) -> None:
        prefix = processes.nonce_prefix(self._launcher.folder(record.stream))
        known = look.incarnation if look else None
        if effect is Effect.SIGNAL and known is not None and known.driver_pid and known.driver_ticks:
            processes.terminate(known.driver_pid, known.driver_ticks, known.nonce)
        elif effect in (Effect.KILL, Effect.SWEEP):
            pending = look is not None and look.seen.life is Life.PENDING
            killed = processes.kill_all(prefix, runners=pending)
            self._journal.write("killed", stream=record.stream, epoch=record.epoch, processes=killed)
            self.wake_soon()

    def wake_soon(self) -> None:
        """After a kill: look whether it worked without waiting for the next poll."""
        timer = threading.Timer(0.1, self.wake)
        timer.daemon = True
        timer.start()

    def _note_conditions(self, record: StreamRecord) -> None:
        """Coming and going of conditions are events; their words change all the time and are not."""
        _, found = self._looks[record.stream]
        names = tuple(sorted(found))
        if names == record.conditions:
            return
        now = self._wall()
        came = [
            _event(record, "condition", now, f"{name}: {found[name]}")
            for name in names
            if name not in record.conditions
        ]
        went = [
            _event(record, "condition", now, f"{name}: no more")
            for name in record.conditions
            if name not in names
        ]
        self._store.save(
            record, replace(record, conditions=names), events=[*came, *went], lease_epoch=self.lease_epoch
        )
        for event in [*came, *went]:
            self._write(event)

    def _trigger(self, record: StreamRecord) -> float:
        """The trigger interval of the contract that runs, for the stall limit."""
        known = self._triggers.get(record.contract_hash)
        if known is None:
            try:
                known = seconds(self._contracts.get(record.contract_hash).contract.job.trigger)
            except (NotFoundError, ValueError):
                return _DEFAULT_TRIGGER
            self._triggers[record.contract_hash] = known
        return known

    def _tell(self, event: Event) -> None:
        self._store.append(event)
        self._write(event)

    def _write(self, event: Event) -> None:
        level = "warning" if event.to_phase in (Phase.BACKOFF, Phase.PARKED) else "info"
        self._journal.write(
            event.kind,
            level=level,
            stream=event.stream,
            source=event.from_phase,
            target=event.to_phase,
            cause=event.cause,
            actor=event.actor,
            generation=event.generation,
            epoch=event.epoch,
            detail=event.detail,
        )

    def _report(self, what: str, error: Exception, **fields: object) -> None:
        text = f"{what}: {error}"
        if text != self._trouble:
            self._journal.write(what, level="error", error=str(error), **fields)
        self._trouble = text


def _event(record: StreamRecord, kind: str, now: float, detail: str) -> Event:
    return Event(
        id=0,
        at=now,
        stream=record.stream,
        kind=kind,
        from_phase=str(record.phase),
        to_phase=str(record.phase),
        cause=kind,
        actor="supervisor",
        generation=record.generation,
        epoch=record.epoch,
        contract_hash=record.contract_hash,
        detail=detail,
    )
