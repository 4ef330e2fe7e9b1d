"""The supervisor's loop: hold the lease, look at every stream, wait for the next reason to look.

Level-triggered: nothing is remembered between rounds that the store and the machine do not say. So a
supervisor that was killed anywhere goes on where it was, and what runs is adopted by being seen. Its own
end touches no driver. Errors are caught in one place for each stream: one stream's trouble is not
another's, and a store that is away stops no driver.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from traceback import format_exc

from headgate.errors import HeadgateError, UnavailableError
from headgate.settings import Settings
from headgate.streams.clearance import Ask
from headgate.streams.journal import Journal
from headgate.streams.launch import Launcher
from headgate.streams.lease import Lease, SupervisorLease
from headgate.streams.observe import Look
from headgate.streams.policy import Policy
from headgate.streams.reconcile import Reconciler, Round
from headgate.streams.record import StreamRecord
from headgate.streams.spares import Spares
from headgate.streams.statements import StaleRecord
from headgate.streams.store import LeaseLost, StateStore
from headgate.streams.watch import Conditions

__all__ = ["Health", "Supervisor"]


@dataclass(frozen=True, slots=True)
class Health:
    """What /healthz tells."""

    role: str  # leader | standby
    last_round_at: float
    rounds: int
    suspended: bool
    lease_epoch: int | None
    trouble: str | None
    replays_at: float | None = None  # when replays were last looked at; None: nobody here does
    spare: str = ""  # the driver in reserve: ready, warming, or none and why


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
        ask: Ask | None = None,
        spares: Spares | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._poll_seconds = settings.supervisor.poll_seconds
        self._store = store
        self._leasing = lease
        self._journal = journal or Journal()
        self._wall = wall
        self._wake = threading.Event()
        self._over = threading.Event()
        self._suspended = threading.Event()
        self._spares = spares or Spares(settings, self._journal, command=None)
        self._reconciler = Reconciler(
            settings,
            store,
            launcher,
            policy=policy or Policy(),
            journal=self._journal,
            wake=self.wake,
            ask=ask,
            spares=self._spares,
            wall=wall,
        )
        self._lease: Lease | None = None
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
        return Health(
            role,
            self._last_round,
            self._rounds,
            self.suspended,
            self.lease_epoch,
            self._trouble,
            spare=self._spares.state,
        )

    def last_look(self, stream: str) -> tuple[Look, Conditions] | None:
        return self._reconciler.last_look(stream)

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
            self._wake.wait(self._poll_seconds)
        self._reconciler.close()
        self._reserve(lambda: self._spares.give_up("the supervisor ends"))
        try:
            self._leasing.release()
        except UnavailableError as error:
            self._journal.write("lease not released", level="warning", error=str(error))

    def round(self) -> None:
        """One look at every stream."""
        trouble = None
        try:
            lease = self._take_lease()
            if lease is not None:
                trouble = self._look_at_all(Round(lease.epoch, self.suspended))
            else:
                self._reserve(lambda: self._spares.give_up("another supervisor leads"))
        except UnavailableError as error:
            # Drivers go on; nothing is started while no intent can be written down.
            trouble = f"store unavailable: {error.message}"
        except LeaseLost as error:
            self._lease = None
            trouble = f"lease lost: {error.message}"
        if trouble != self._trouble:
            level = "error" if trouble else "info"
            self._journal.write("trouble" if trouble else "no more trouble", level=level, detail=trouble)
        self._trouble = trouble
        self._rounds += 1
        self._last_round = self._wall()

    def _take_lease(self) -> Lease | None:
        before, self._lease = self._lease, self._leasing.hold()
        if self._lease == before:
            return self._lease
        self._reconciler.forget()
        self._reserve(self._spares.sweep)
        if self._lease is None:
            self._journal.write("lease lost", level="warning")
        else:
            self._journal.write("lease taken", epoch=self._lease.epoch)
        return self._lease

    def _look_at_all(self, now: Round) -> str | None:
        """All streams; what went wrong with any of them as one line."""
        self._reconciler.begin()
        troubles = [self._guarded(record, now) for record in self._store.streams()]
        self._reserve(partial(self._tend, now))
        return "; ".join(each for each in troubles if each) or None

    def _tend(self, now: Round) -> None:
        """Keep a driver in reserve for the stream that starts next."""
        if now.suspended:
            self._spares.give_up("the platform is suspended")
        else:
            self._spares.tend(self._reconciler.spare_memory(self._store.streams()))

    def _reserve(self, act: Callable[[], None]) -> None:
        """A driver in reserve is a convenience: whatever goes wrong with it is no stream's trouble."""
        try:
            act()
        except (UnavailableError, LeaseLost):
            raise
        except Exception:  # noqa: BLE001 - the supervisor goes on without one
            self._journal.write("spare driver", level="error", traceback=format_exc())

    def _guarded(self, record: StreamRecord, now: Round) -> str | None:
        try:
            self._reconciler.reconcile(record, now)
        except StaleRecord:
            self.wake()  # an order came in between: look again at once
        except (UnavailableError, LeaseLost):
            raise
        except (HeadgateError, OSError, ValueError) as error:
            return self._troubled(record, str(error))
        except Exception as error:  # noqa: BLE001 - one stream's trouble is not another's, whatever it is
            self._journal.write("trouble", level="error", stream=record.stream, traceback=format_exc())
            return self._troubled(record, f"{type(error).__name__}: {error}")
        self._reconciler.note_trouble(record.stream, None)
        return None

    def _troubled(self, record: StreamRecord, why: str) -> str:
        trouble = f"stream {record.stream} cannot be reconciled: {why}"
        self._reconciler.note_trouble(record.stream, trouble)
        return trouble
