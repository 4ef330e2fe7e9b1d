"""Preflight for the supervisor: asked in threads of its own, so that one stream's Kafka stops no other.

An answer counts for the record that was asked about and no other: its version says so. Nothing here
outlives the process; a supervisor that comes back asks again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from headgate.errors import HeadgateError, ServiceError, UnavailableError
from headgate.settings import Settings
from headgate.streams.journal import Journal
from headgate.streams.model import FailureClass
from headgate.streams.record import StreamRecord
from headgate.streams.steps import Clearance

__all__ = ["Ask", "Preflights", "ask_preflight"]

Ask = Callable[[StreamRecord], Clearance]
# An answer that nobody used is soon too old: retention goes on, and so do people.
_FRESH_SECONDS = 15.0
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Answer:
    version: int
    at: float
    clearance: Clearance


class Preflights:
    def __init__(
        self,
        ask: Ask,
        wake: Callable[[], None],
        journal: Journal,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._wake = wake
        self._journal = journal
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._seats = threading.Semaphore(_AT_ONCE)
        self._under_way: set[str] = set()
        self._answers: dict[str, _Answer] = {}

    def answer(self, record: StreamRecord) -> Clearance | None:
        """What was found out for this very record; None when it has not been asked, or too long ago."""
        with self._lock:
            found = self._answers.get(record.stream)
        if found is None or found.version != record.version:
            return None
        return found.clearance if self._monotonic() - found.at <= _FRESH_SECONDS else None

    def begin(self, record: StreamRecord) -> None:
        """Ask, unless it is being asked for this stream; the supervisor is woken by the answer."""
        with self._lock:
            if record.stream in self._under_way:
                return
            self._under_way.add(record.stream)
        thread = threading.Thread(
            target=self._run, args=(record,), name=f"preflight-{record.stream}", daemon=True
        )
        thread.start()

    def _run(self, record: StreamRecord) -> None:
        with self._seats:
            found = self._asked(record)
        with self._lock:
            self._answers[record.stream] = _Answer(record.version, self._monotonic(), found)
            self._under_way.discard(record.stream)
        self._wake()

    def _asked(self, record: StreamRecord) -> Clearance:
        try:
            return self._ask(record)
        except (UnavailableError, ServiceError, OSError) as error:
            text = error.message if isinstance(error, HeadgateError) else str(error)
            return Clearance(FailureClass.DEPENDENCY, text)
        except HeadgateError as error:
            return Clearance(FailureClass.DETERMINISTIC, "; ".join(str(error).splitlines()))
        except Exception as error:  # noqa: BLE001 - a thread's last resort: what cannot be looked at is not "fine"
            self._journal.write("preflight broke", level="error", stream=record.stream, error=repr(error))
            return Clearance(FailureClass.UNKNOWN, f"it broke: {error!r}")


def ask_preflight(settings: Settings) -> Ask:
    """The real preflight, of the contract that the order names."""

    def ask(record: StreamRecord) -> Clearance:
        # Kafka's and Delta's clients are heavy: a supervisor of streams at rest does without them.
        from headgate.checkpoints.layout import CheckpointLayout
        from headgate.checkpoints.origin import unsettled
        from headgate.checkpoints.preflight import preflight, refusal
        from headgate.contract.frozen import ContractStore

        frozen = ContractStore(settings.state).get(record.contract_hash)
        layout = CheckpointLayout(settings.checkpoints, record.pipeline)
        begins = record.origin if unsettled(layout, record.origin, record.generation) else None
        findings = preflight(settings, frozen, begins)
        refused = refusal(findings)
        if refused is not None:
            return Clearance(refused.failure, refused.text)
        return Clearance(text="; ".join(each.message for each in findings if each.severity == "warn"))

    return ask
