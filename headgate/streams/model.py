"""The words of supervision: phases, desired state, owners, failure classes, and a stream's status.

*Generation* is an order to run and fences orders; *epoch* is one incarnation of the driver and fences
writes; *lineage* is one history of batch ids, that is one checkpoint. All three only ever rise.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

__all__ = [
    "Desired",
    "DriverStatus",
    "Event",
    "FailureClass",
    "Owner",
    "Phase",
    "QueryProgress",
    "StreamStatus",
]


class Phase(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    PARKED = "parked"
    RETIRED = "retired"


class Desired(StrEnum):
    RUNNING = "running"
    STOPPED = "stopped"
    RETIRED = "retired"  # to be ended for good


class FailureClass(StrEnum):
    DEPENDENCY = "dependency"
    TRANSIENT = "transient"
    DETERMINISTIC = "deterministic"
    DATA_LOSS = "data_loss"
    CHECKPOINT = "checkpoint"
    FENCED = "fenced"
    POISON = "poison"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who ordered a stream. `kind` is `airflow` or `cli`; for Airflow the try of a task instance is named.

    The clear number is a note for people: it is the DAG run's, so clearing any other task raises it.
    """

    kind: str
    user: str = ""
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    try_number: int = 0
    clear_number: int = field(default=0, compare=False)

    @property
    def label(self) -> str:
        if self.kind == "airflow":
            return f"airflow:{self.dag_id}/{self.run_id}/{self.task_id}"
        return f"{self.kind}:{self.user}"


@dataclass(frozen=True, slots=True)
class QueryProgress:
    """What one streaming query last reported. Times are Unix seconds, or None before the first."""

    batch_id: int = -1
    begun_at: float | None = None  # the query itself, which may start again while its driver runs
    last_commit_at: float | None = None
    last_progress_at: float | None = None
    last_idle_at: float | None = None
    last_task_at: float | None = None  # the last task of a batch under way that finished
    batches: int = 0  # committed by this incarnation
    rows: int = 0
    rows_per_second: float = 0.0
    batch_seconds: float = 0.0
    watermark: float | None = None
    state_rows: int = 0
    state_bytes: int = 0
    late_groups: int = 0
    active: bool = True
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """The driver's own report, in `<state>/streams/<stream>/status.json`, replaced atomically."""

    stream: str
    pipeline: str
    epoch: int
    generation: int
    contract_hash: str
    lineage: str
    headgate_version: str
    pid: int
    phase: str  # starting | running | stopping | failed | stopped
    written_at: float
    metrics_port: int | None = None
    ui_url: str | None = None
    queries: dict[str, QueryProgress] = field(default_factory=dict)
    lane: str | None = None  # of the record query, and why
    waiting_for: str | None = None  # a service that a batch waits for, and since when it does
    failure_class: str | None = None
    failure_condition: str | None = None
    failure_message: str | None = None
    failure_query: str | None = None  # whose failure it was, where it was one query's

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DriverStatus:
        """A report of a newer driver may hold more than is known here; that is left out.

        Raises ValueError for a value of another type: the file is the driver's, and its readers go on.
        """
        return _report_adapter().validate_python(data)


@lru_cache(maxsize=1)
def _report_adapter() -> TypeAdapter[DriverStatus]:
    return TypeAdapter(DriverStatus)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """What the supervisor answers for one stream."""

    stream: str
    pipeline: str
    phase: Phase
    desired: Desired
    generation: int
    epoch: int
    contract_hash: str
    owner: Owner | None = None
    reason: str = ""  # why it is in this phase, for people
    failure_class: FailureClass | None = None
    consecutive_failures: int = 0
    restarts: int = 0
    next_attempt_at: float | None = None
    phase_since: float = 0.0
    stopped_by: str | None = None  # who asked for the stop, and why
    stopped_how: str | None = None  # committed | killed | interrupted | never started | nothing ran
    driver: DriverStatus | None = None
    driver_alive: bool | None = None  # None: this supervisor has not looked yet
    draining: dict[str, Any] | None = None  # left, deadline_at, given_up: a stop that waits for commits
    conditions: dict[str, str] = field(default_factory=dict)  # beside the phase: name to text for people

    def runs(self, generation: int) -> bool:
        """Whether the driver of this generation runs, and not yet the one that it replaces."""
        driver = self.driver
        return self.phase is Phase.RUNNING and driver is not None and driver.generation == generation

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> StreamStatus:
        values = dict(data)
        values["phase"] = Phase(values["phase"])
        values["desired"] = Desired(values["desired"])
        if values.get("failure_class"):
            values["failure_class"] = FailureClass(values["failure_class"])
        if values.get("owner"):
            values["owner"] = Owner(**values["owner"])
        if values.get("driver"):
            values["driver"] = DriverStatus.from_json(values["driver"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a stream's append-only log."""

    id: int
    at: float
    stream: str
    kind: str
    from_phase: str
    to_phase: str
    cause: str
    actor: str
    generation: int
    epoch: int
    contract_hash: str = ""
    detail: str = ""
