"""What each source of the exporter gives, before it is put together into a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headgate.contract.frozen import Applied, FrozenContract
from headgate.streams.model import DriverStatus, Event, StreamStatus
from monitoring.snapshot import OutputVerdict, PartitionLag, Rows, TopicHealth

__all__ = [
    "AppliedContract",
    "CheckpointReading",
    "DriverReport",
    "QueryCheckpoint",
    "QueryLag",
    "Readings",
    "Stored",
    "StoredStream",
    "Supervised",
    "Sweep",
    "SweepFinding",
]


@dataclass(frozen=True, slots=True)
class AppliedContract:
    pointer: Applied
    frozen: FrozenContract


@dataclass(frozen=True, slots=True)
class Supervised:
    """What the supervisor says. `reconciled_at` is None when it does not tell."""

    streams: Mapping[str, StreamStatus]
    events: Mapping[str, tuple[Event, ...]]
    reconciled_at: float | None


@dataclass(frozen=True, slots=True)
class DriverReport:
    """A driver's own file, and whether its process is there, with the pid and start time it had."""

    status: DriverStatus
    alive: bool


@dataclass(frozen=True, slots=True)
class QueryCheckpoint:
    query: str
    batch_id: int
    committed_at: float | None
    conservation_difference: int | None = None


@dataclass(frozen=True, slots=True)
class CheckpointReading:
    """The checkpoints of one pipeline; no queries before the first commit. `snapshot_at` is the newest
    snapshot, or the lineage's begin where that is later; `snapshot_every` None without a schedule."""

    lineage: str | None = None
    queries: Mapping[str, QueryCheckpoint] = field(default_factory=dict)
    rows: Rows | None = None
    snapshot_at: float | None = None
    snapshot_every: float | None = None


@dataclass(frozen=True, slots=True)
class QueryLag:
    records: int
    seconds: float | None
    partitions: tuple[PartitionLag, ...]
    topic_seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class StoredStream:
    """What the store keeps of a stream, for the time that its supervisor is dead."""

    desired: str
    generation: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Stored:
    verdicts: Mapping[str, tuple[OutputVerdict, ...]]
    streams: Mapping[str, StoredStream] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SweepFinding:
    """What Airflow's sweep says of one stream: one of `headgate.airflow.reconcile.Kind`."""

    kind: str
    text: str
    generation: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """The end of the last sweep, and what it found by stream."""

    at: float
    found: Mapping[str, SweepFinding] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Readings:
    """All sources at one moment; None where a source is down."""

    contracts: Mapping[str, AppliedContract] | None = None
    supervised: Supervised | None = None
    drivers: Mapping[str, DriverReport] | None = None
    checkpoints: Mapping[str, CheckpointReading] | None = None
    lags: Mapping[str, Mapping[str, QueryLag]] | None = None
    stored: Stored | None = None
    topics: tuple[TopicHealth, ...] | None = None
    producers: tuple[tuple[str, int], ...] | None = None
    sweep: Sweep | None = None
