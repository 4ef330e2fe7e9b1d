"""Carries out one fault on a private copy and measures it: when it was seen, when batches went on.

A driver that was killed has been seen by the event that moves the stream to backoff; one that outlived its
supervisor has been adopted by the event that says so, counted from the start of the new supervisor's process.
Recovered is when the record query has committed a batch that it had not before. A stream that parks,
unless the fault is one that has to park it, fails the run.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import psutil

from headgate.checkpoints.layout import RECORDS
from headgate.checkpoints.logs import newest
from headgate.errors import HeadgateError, NotFoundError, SupervisorUnavailable
from headgate.failpoints import Order, place
from headgate.streams.model import Event, Phase, StreamStatus
from headgate.torture.damage import cut, remedy
from headgate.torture.outcome import Found, Outcome, first_at
from headgate.torture.place import Place
from headgate.torture.plan import Fault, Kind

__all__ = ["TortureError", "carry_out", "wait"]

# Long, because machines that run this may be busy; nothing waits longer than it has to.
DEADLINE = 300.0


class TortureError(HeadgateError):
    """The stream did not do what it should; the private copy is kept to look at."""


def wait(look: Callable[[], bool], describe: Callable[[], str], seconds: float = DEADLINE) -> float:
    """Poll; how long it took. Raises TortureError."""
    begun = time.monotonic()
    while not look():
        if time.monotonic() - begun > seconds:
            raise TortureError(f"not within {seconds:.0f} s: {describe()}")
        time.sleep(0.05)
    return time.monotonic() - begun


def carry_out(own: Place, fault: Fault, run_begun: float) -> Outcome:
    """Do it, wait until the stream commits again. Raises TortureError."""
    before = own.status()
    doing = _Doing(own, fault, before.epoch, before.generation)
    at = time.monotonic() - run_begun
    found = _ACTS[fault.kind](doing)
    committed = doing.committed_then
    wait(lambda: _goes_on(own, committed), lambda: f"a batch after {fault.text}; {_told(own)}")
    recovered = time.monotonic() - doing.struck
    now = own.status()
    reserve = now.epoch > before.epoch and own.drives_a_reserve(now)
    return Outcome(fault.text, at, found.seen, recovered, found.note, found.adopted, found.sigkill, reserve)


class _Doing:
    """One fault under way: when it struck, and what was committed then."""

    def __init__(self, own: Place, fault: Fault, epoch: int, generation: int) -> None:
        self.own = own
        self.fault = fault
        self.epoch = epoch
        self.generation = generation
        self.struck = time.monotonic()
        self.struck_at = time.time()  # as events have it
        self.committed_then = own.committed()

    def strike(self) -> None:
        """The fault begins now."""
        self.struck = time.monotonic()
        self.struck_at = time.time()
        self.committed_then = self.own.committed()

    def until_dead(self) -> float:
        """Until the supervisor has judged the death of a driver that was killed, by its event."""
        ends = (Phase.BACKOFF, Phase.PARKED)
        at = _event(self.own, self.struck_at, lambda each: each.to_phase in ends, f"sees {self.fault.text}")
        return at - self.struck_at

    def until_seen(self) -> float:
        """Until the supervisor has noticed that the driver of then is dead."""

        def noticed() -> bool:
            status = _status(self.own)
            return status is not None and (status.epoch > self.epoch or status.phase is not Phase.RUNNING)

        wait(noticed, lambda: f"the supervisor notices {self.fault.text}; {_told(self.own)}")
        return time.monotonic() - self.struck


def _kill_driver(doing: _Doing) -> Found:
    """With its JVM, or without: then the JVM is what the supervisor has to clear away first."""
    pids = doing.own.driver()
    alone = _even(doing)
    doing.strike()
    _signal(pids[:1] if alone else pids, signal.SIGKILL)
    return Found(doing.until_dead(), "Python alone" if alone else "with its JVM", sigkill=True)


def _kill_at_failpoint(doing: _Doing) -> Found:
    _die_at(doing, str(doing.fault.failpoint), doing.fault.hit)
    return Found(doing.until_dead(), sigkill=True)


def _die_at(doing: _Doing, name: str, hit: int) -> None:
    order = Order(name, "kill", hit=hit)
    fired = place(doing.own.settings, f"{doing.fault.number:03}", order).with_suffix(".fired")
    wait(fired.exists, lambda: f"a batch reaches {name}; {_told(doing.own)}")
    doing.strike()
    doing.struck_at = fired.stat().st_ctime  # it was renamed just before the kill


def _freeze_driver(doing: _Doing) -> Found:
    pids = doing.own.driver()
    doing.strike()
    _signal(pids, signal.SIGSTOP)
    time.sleep(doing.fault.away)
    _signal(pids, signal.SIGCONT)
    return Found(note=f"frozen for {doing.fault.away} s")


def _restart_broker(doing: _Doing) -> Found:
    hard = _even(doing)
    doing.strike()
    doing.own.broker.kill() if hard else doing.own.broker.stop()
    time.sleep(doing.fault.away)
    doing.own.broker.start()
    return Found(note="kill -9" if hard else "in order")


def _restart_redis(doing: _Doing) -> Found:
    doing.strike()
    doing.own.redis.kill()
    time.sleep(doing.fault.away)
    doing.own.redis.start()
    return Found(note=f"away for {doing.fault.away} s")


def _kill_supervisor(doing: _Doing) -> Found:
    pids = doing.own.driver()
    doing.strike()
    doing.own.supervisor.kill()
    time.sleep(doing.fault.away)
    begun = time.time()
    doing.own.supervisor.start()
    at = _event(doing.own, begun, lambda each: each.kind == "adopted", "adopts the driver")
    wait(lambda: _adopted(doing.own), lambda: f"the driver is adopted; {_told(doing.own)}")
    status = doing.own.status()
    if status.epoch != doing.epoch or not set(pids[:1]) <= set(doing.own.driver()):
        raise TortureError(
            f"a live driver was not adopted but replaced, epoch {doing.epoch} → {status.epoch}"
        )
    return Found(note="adopted; from the start of the new supervisor", adopted=at - begun)


def _disk_full(doing: _Doing) -> Found:
    """Every file that the driver writes is at its limit, as on a full disk; lifted when it has failed."""
    limited = [psutil.Process(pid) for pid in doing.own.driver()]
    doing.strike()
    for process in limited:
        _limit_files(process, 0)
    try:
        seen = doing.until_seen()
    finally:
        for process in limited:
            _limit_files(process, psutil.RLIM_INFINITY)
    return Found(seen, "no file of the driver can grow (RLIMIT_FSIZE)")


def _limit_files(process: psutil.Process, most: int) -> None:
    try:
        _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (hard if most == psutil.RLIM_INFINITY else most, hard))
    except psutil.NoSuchProcess:
        return


def _damage_offsets(doing: _Doing) -> Found:
    """The driver dies where a batch has begun and nothing of it is written; its offsets file is cut."""
    own = doing.own
    own.supervisor.kill()
    _die_at(doing, "records.gate", 1)
    wait(lambda: not own.driver_left(), lambda: "the driver is dead")
    query = own.query(RECORDS)
    assert query is not None, "a stream that commits has a checkpoint"
    file = cut(query, keep=0.5 if _even(doing) else 0.0)
    damaged = file.read_bytes()
    own.supervisor.start()
    wait(
        lambda: _phase(own) is Phase.PARKED,
        lambda: f"the stream parks for its damaged checkpoint; {_told(own)}",
    )
    seen = time.monotonic() - doing.struck
    if not file.exists() or file.read_bytes() != damaged or newest(query / "offsets") != int(file.name):
        raise TortureError(f"the damaged file {file} was touched: nothing may be deleted by itself")
    remedy(own.settings, own.frozen, query, file)
    with own.client() as client:
        client.restart(
            own.stream,
            actor="cli:torture",
            reason="the damaged offsets were removed",
            idempotency_key=f"torture-{doing.fault.number}",
        )
    return Found(seen, "parked; the damaged file removed by hand")


_ACTS: dict[Kind, Callable[[_Doing], Found]] = {
    Kind.KILL_DRIVER: _kill_driver,
    Kind.KILL_AT_FAILPOINT: _kill_at_failpoint,
    Kind.FREEZE_DRIVER: _freeze_driver,
    Kind.RESTART_BROKER: _restart_broker,
    Kind.RESTART_REDIS: _restart_redis,
    Kind.KILL_SUPERVISOR: _kill_supervisor,
    Kind.DISK_FULL: _disk_full,
    Kind.DAMAGE_OFFSETS: _damage_offsets,
}


def _even(doing: _Doing) -> bool:
    """A coin that the seed has thrown."""
    return round(doing.fault.away * 100) % 2 == 0


def _goes_on(own: Place, before: int) -> bool:
    if _phase(own) is Phase.PARKED:
        raise TortureError(f"the stream is parked: {_told(own)}")
    return own.committed() > before


def _adopted(own: Place) -> bool:
    status = _status(own)
    return status is not None and bool(status.driver_alive) and status.phase is Phase.RUNNING


def _event(own: Place, after: float, wanted: Callable[[Event], bool], what: str) -> float:
    moments: list[float] = []

    def look() -> bool:
        try:
            with own.client() as client:
                found = first_at(client.events(own.stream, after=-1), after, wanted)
        except SupervisorUnavailable:
            return False
        moments.extend([] if found is None else [found])
        return found is not None

    wait(look, lambda: f"the supervisor {what}; {_told(own)}")
    return moments[0]


def _status(own: Place) -> StreamStatus | None:
    try:
        return own.status()
    except (SupervisorUnavailable, NotFoundError):
        return None


def _phase(own: Place) -> Phase | None:
    status = _status(own)
    return None if status is None else status.phase


def _told(own: Place) -> str:
    status = _status(own)
    text = "the supervisor does not answer" if status is None else f"{status.phase}: {status.reason}"
    return f"{text}; its log is {own.log}"


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
