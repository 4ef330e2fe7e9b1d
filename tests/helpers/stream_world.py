"""A small world of processes in which the state machine is driven: random orders, random faults."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from headgate.errors import RefusedError
from headgate.streams import orders
from headgate.streams.failures import Diagnosis
from headgate.streams.machine import decide
from headgate.streams.model import Event, FailureClass, Owner, Phase
from headgate.streams.policy import Policy
from headgate.streams.record import Drain, StreamRecord
from headgate.streams.steps import Clearance, Effect, Life, Seen, Step
from headgate.streams.transitions import TRANSITIONS, actor_kind

ALICE = Owner(kind="cli", user="alice")
AIRFLOW = Owner(kind="airflow", dag_id="stream.s", run_id="r", task_id="run", try_number=1)
POLICY = Policy(stop_deadline=20.0, stall_restart=None)
HASH = "c" * 64


@dataclass
class Driver:
    epoch: int
    alive: bool = True
    child: bool = False  # something that it started and that outlives it
    up: bool = False
    committed: bool = False
    deaf: bool = False
    exit: tuple[int | None, int | None] = (None, None)
    exited_at: float | None = None
    why: FailureClass | None = None


@dataclass
class World:
    """Processes, a clock, and the store's record. `crash` loses what the supervisor had in mind."""

    rng: random.Random
    record: StreamRecord | None = None
    now: float = 0.0
    suspended: bool = False
    drivers: list[Driver] = field(default_factory=list)
    open_epoch: int | None = None
    launched: set[int] = field(default_factory=set)
    claimed: int = 0
    applied: bool = True
    left: int = 5  # what a drain waits for
    fits: FailureClass | None = None  # what preflight finds
    looked: StreamRecord | None = None  # the record that it has looked at, and what it found then
    found: Clearance = field(default_factory=Clearance)
    events: list[Event] = field(default_factory=list)

    def current(self) -> Driver | None:
        found = [driver for driver in self.drivers if driver.epoch == self.open_epoch]
        return found[0] if found else None

    def look(self) -> Seen:
        answer = self.found if self.record is not None and self.looked == self.record else None
        seen = Seen(self.life(), claimed_epoch=self.claimed, preflight=answer)
        seen = replace(seen, left=self.left, applied=self.applied)
        driver = self.current()
        if driver is None:
            return seen
        seen = replace(seen, up=driver.up, progressed=driver.committed, healthy=driver.committed)
        seen = replace(seen, each_progressed=driver.committed, shown=driver.committed)
        if driver.alive:
            return seen
        code, number = driver.exit
        diagnosis = Diagnosis(driver.why or FailureClass.TRANSIENT, "world", "fault")
        return replace(seen, returncode=code, signal=number, exited_at=driver.exited_at, diagnosis=diagnosis)

    def life(self) -> Life:
        if self.open_epoch is None:
            return Life.REMAINS if any(d.alive or d.child for d in self.drivers) else Life.NONE
        driver = self.current()
        if driver is None:
            return Life.NEVER
        if driver.alive:
            return Life.ALIVE
        return Life.REMAINS if driver.child else Life.DEAD

    def tick(self, crash: bool = False) -> None:
        """One round of the supervisor; with `crash` it dies between writing down and acting."""
        for _ in range(6):
            if self.record is None:
                return
            step = decide(
                self.record,
                self.look(),
                now=self.now,
                policy=POLICY,
                jitter=self.rng.random(),
                suspended=self.suspended,
            )
            if step is None:
                return
            self.act(step.effect)
            self.write(step)
            if crash:
                return
            if step.effect is Effect.SPAWN:
                self.spawn()
            if step.event is None:
                return

    def write(self, step: Step) -> None:
        assert self.record is not None
        before, after = self.record, step.record
        if step.event is not None:
            self.events.append(step.event)
            if step.event.kind == "transition":
                allowed = [
                    t
                    for t in TRANSITIONS
                    if (t.source, t.target, t.cause) == (before.phase, after.phase, step.event.cause)
                ]
                assert allowed
                assert actor_kind(step.event.actor) in allowed[0].actors
        assert after.epoch >= before.epoch
        assert after.generation >= before.generation
        if step.ending is not None:
            self.open_epoch = None
        if after.epoch > before.epoch:
            assert self.open_epoch is None, "an incarnation was left open"
            self.open_epoch = after.epoch
        if after.phase is Phase.BACKOFF and before.phase is not Phase.BACKOFF:
            assert after.next_attempt_at is not None
            assert 0 < after.next_attempt_at - self.now <= POLICY.backoff_cap
        self.record = after

    def spawn(self) -> None:
        assert self.record is not None
        assert not any(driver.alive or driver.child for driver in self.drivers), "two drivers"
        assert self.record.epoch not in self.launched, "one epoch, one driver"
        assert self.record.epoch > self.claimed
        self.launched.add(self.record.epoch)
        self.claimed = self.record.epoch
        self.drivers.append(Driver(self.record.epoch, child=self.rng.random() < 0.5))

    def act(self, effect: Effect | None) -> None:
        if effect is Effect.PREFLIGHT:
            self.looked, self.found = self.record, Clearance(self.fits, "told")
        elif effect is Effect.SPAWN:
            assert self.looked == self.record, "nothing starts that preflight has not looked at"
            assert self.found.failure is None, "nothing starts that preflight refuses"
        elif effect is Effect.WITHDRAW:
            self.applied = False
        for driver in self.drivers:
            if effect is Effect.SIGNAL and driver.alive and not driver.deaf:
                self.die(driver, (0, None), None)
            if effect in (Effect.KILL, Effect.SWEEP):
                if driver.alive:
                    self.die(driver, (None, 9), None)
                driver.child = False

    def die(self, driver: Driver, status: tuple[int | None, int | None], why: FailureClass | None) -> None:
        driver.alive, driver.exit, driver.exited_at, driver.why = False, status, self.now, why


COMMANDS = (
    *("ensure", "restart", "stop", "kill", "airflow_stop", "suspend", "resume"),
    *("drain", "retire", "apply"),
)
FAULTS = (
    *("fail", "sigkill", "deaf", "up", "commit", "child_dies", "crash", "tick", "wait", "claim"),
    *("refused", "away", "fits"),
)
PREFLIGHTS = {"refused": FailureClass.CHECKPOINT, "away": FailureClass.DEPENDENCY, "fits": None}


def happen(world: World, what: str) -> None:
    """One order or one fault."""
    if what in COMMANDS:
        with suppress(RefusedError):
            command(world, what)
    elif what == "crash":
        world.tick(crash=True)
    elif what == "tick":
        world.tick()
    elif what == "wait":
        world.now += world.rng.choice((0.5, 3.0, 30.0, 400.0))
        world.left = max(world.left - world.rng.choice((0, 0, 1, 5)), 0)
    elif what in PREFLIGHTS:
        world.fits = PREFLIGHTS[what]
    elif what == "claim":
        world.claimed += world.rng.random() < 0.2
    elif (driver := world.current()) is not None:
        touch(world, driver, what)


def command(world: World, what: str) -> None:
    record, rng = world.record, world.rng
    if what in ("suspend", "resume"):
        world.suspended = what == "suspend"
    elif what == "apply":
        world.applied = True
    elif what == "ensure" or record is None:
        order: dict[str, Any] = {
            "stream": "s",
            "pipeline": "s",
            "contract_hash": HASH,
            "owner": rng.choice((ALICE, AIRFLOW)),
        }
        world.record, _ = orders.ensure(record, **order, now=world.now, applied=world.applied)
    elif what == "restart":
        order = {"stream": "s", "actor": "cli:bob", "reason": "", "owner": ALICE, "contract_hash": None}
        world.record, _ = orders.restart(record, **order, now=world.now, applied=world.applied)
    elif what == "drain":
        world.left = 5
        asked = Drain("cli:bob", "drained", world.now + rng.choice((5.0, 500.0)), 60.0, {"t": {0: 5}})
        world.record, _ = orders.drain(record, stream="s", asked=asked, now=world.now)
    elif what == "retire":
        world.record, _ = orders.retire(
            record, stream="s", actor="cli:bob", reason="", deadline_seconds=20.0, now=world.now
        )
    else:
        owner_of = record.owner if what == "airflow_stop" else None
        world.record, _ = orders.stop(
            record,
            stream="s",
            actor="airflow:a/b/c" if owner_of else "cli:bob",
            reason="",
            owner=owner_of,
            generation=None,
            kill=what == "kill",
            deadline_seconds=rng.choice((0.0, 5.0, 60.0)),
            now=world.now,
        )


def touch(world: World, driver: Driver, what: str) -> None:
    if what == "child_dies" and not driver.alive:
        driver.child = False
    if not driver.alive:
        return
    if what == "fail":
        world.die(driver, (10, None), world.rng.choice(list(FailureClass)))
    elif what == "sigkill":
        world.die(driver, (None, 9), None)
    elif what == "deaf":
        driver.deaf = True
    elif what == "up":
        driver.up = True
    elif what == "commit" and driver.up:
        driver.committed = True
