"""What the store keeps of a stream and of each incarnation of its driver, as immutable values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from headgate.checkpoints.origin import Origin
from headgate.streams.model import Desired, Event, FailureClass, Owner, Phase

__all__ = [
    "Drain",
    "Ending",
    "Failure",
    "Incarnation",
    "StopCause",
    "StopOrder",
    "StreamRecord",
    "Upgrade",
    "event",
]


class StopCause(StrEnum):
    """Why a living driver is being stopped; it decides what follows its death."""

    ORDERED = "stop ordered"  # stays stopped
    REPLACED = "replaced"  # a newer generation starts
    SUSPENDED = "platform suspended"  # starts again on resume
    UNHEALTHY = "unhealthy"  # counts as a failure
    MUTE = "mute"  # counts as a failure, and is no verdict on its contract: nothing of it has run
    STRAY = "not wanted"  # alive though the record says that it is not


@dataclass(frozen=True, slots=True)
class StopOrder:
    """A stop under way. What was sent is written down, so that a new supervisor goes on from there."""

    cause: StopCause
    by: str
    reason: str
    deadline_at: float
    kill: bool = False
    signalled_at: float | None = None
    killed_at: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> StopOrder:
        return cls(**{**data, "cause": StopCause(data["cause"])})


@dataclass(frozen=True, slots=True)
class Drain:
    """A stop that waits until `ends` (topic to partition to offset) is committed; the stream runs on.

    `given_up` says what was left at the deadline: the stream then runs on as if nothing had been asked.
    """

    by: str
    reason: str
    deadline_at: float
    stop_seconds: float  # what the running batch is given once everything is committed
    ends: Mapping[str, Mapping[int, int]]
    given_up: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Drain:
        ends = {topic: {int(n): int(o) for n, o in each.items()} for topic, each in data["ends"].items()}
        return cls(**{**data, "ends": ends})


@dataclass(frozen=True, slots=True)
class Failure:
    """One death that nobody asked for. `progressed` says that a batch was committed before it."""

    at: float
    failure: FailureClass
    text: str
    progressed: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Failure:
        return cls(**{**data, "failure": FailureClass(data["failure"])})


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A contract that has yet to show that it is stable, or the way back from one that was not.

    `snapshot` holds the checkpoint as it was before `contract_hash` ran. `undone` says that the stream
    went back to `stable_hash`; that happens once.
    """

    contract_hash: str
    stable_hash: str
    snapshot: str
    begun_at: float
    undone: bool = False
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Upgrade:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One stream as it is wanted and as it stands.

    `generation` is the newest order, `attempted` the order that was carried out last: the newest
    incarnation was started for it, or preflight refused it. `failures` are those since the last
    progress. `version` rises with each write; a writer that read an older one is refused.
    """

    stream: str
    pipeline: str
    contract_hash: str
    desired: Desired = Desired.STOPPED
    phase: Phase = Phase.STOPPED
    phase_since: float = 0.0
    generation: int = 0
    attempted: int = 0
    epoch: int = 0
    owner: Owner | None = None
    ordered_by: str = ""
    reason: str = ""
    failure_class: FailureClass | None = None
    failures: tuple[Failure, ...] = ()
    restarts: int = 0
    next_attempt_at: float | None = None
    stop: StopOrder | None = None
    stopped_by: str | None = None
    stopped_how: str | None = None
    conditions: tuple[str, ...] = ()
    drain: Drain | None = None
    version: int = 0
    origin: Origin | None = None  # where the newest generation begins; None: at its checkpoint
    stable_hash: str = ""  # the last contract under which the stream was stable
    upgrade: Upgrade | None = None

    @property
    def draining(self) -> bool:
        return self.drain is not None and self.drain.given_up is None and self.desired is Desired.RUNNING

    @property
    def superseded(self) -> bool:
        """An order waits that no incarnation has been started for."""
        return self.attempted < self.generation


@dataclass(frozen=True, slots=True)
class Ending:
    """How an incarnation ended, for its row."""

    how: str  # stopped | killed | failed | never started
    returncode: int | None = None
    signal: int | None = None
    failure: FailureClass | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One driver process. Ticks count from the boot that `boot_id` names, so no clock step moves them."""

    stream: str
    epoch: int
    generation: int
    contract_hash: str
    nonce: str
    started_at: float
    runner_pid: int | None = None
    runner_start: float | None = None
    driver_pid: int | None = None
    driver_start: float | None = None
    driver_ticks: int | None = None
    boot_id: str | None = None
    host: str = ""  # where it was launched; a supervisor elsewhere cannot see its processes
    ended_at: float | None = None
    ending: Ending | None = None


def event(record: StreamRecord, kind: str, now: float, actor: str, detail: str) -> Event:
    """An event of a stream that changes no phase."""
    return Event(
        id=0,
        at=now,
        stream=record.stream,
        kind=kind,
        from_phase=str(record.phase),
        to_phase=str(record.phase),
        cause=kind,
        actor=actor,
        generation=record.generation,
        epoch=record.epoch,
        contract_hash=record.contract_hash,
        detail=detail,
    )
