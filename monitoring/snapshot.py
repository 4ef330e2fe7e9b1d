"""What is known of every stream at one moment: one value that `headgate status`, /metrics and the status
page all show, so that they never tell different things.

None means "not known", never "zero": the source that would know did not answer, or there is nothing yet.
Moments are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from headgate.streams.model import Event

__all__ = [
    "OutputVerdict",
    "PartitionLag",
    "PipelineSnapshot",
    "PlatformSnapshot",
    "QuerySnapshot",
    "Rows",
    "SourceHealth",
    "TopicHealth",
    "moment",
]

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """Whether one of the exporter's sources answers. `required` ones make `headgate status` fail."""

    name: str
    up: bool
    succeeded_at: float | None
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class PartitionLag:
    topic: str
    partition: int
    position: int
    end: int
    records: int


@dataclass(frozen=True, slots=True)
class QuerySnapshot:
    """One streaming query: what its checkpoint says, and what its driver says while it lives."""

    query: str
    batch_id: int | None = None
    last_commit_at: float | None = None
    last_task_at: float | None = None  # of a long batch under way
    lag_records: int | None = None
    lag_seconds: float | None = None
    partitions: tuple[PartitionLag, ...] = ()
    topic_seconds: dict[str, float] = field(default_factory=dict)
    active: bool | None = None
    error: str | None = None
    conservation_difference: int | None = None


@dataclass(frozen=True, slots=True)
class OutputVerdict:
    output: str
    status: str
    severity: str
    at: float
    rows_checked: int | None
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """The books of the newest committed batch; `per_second` over about the last half minute."""

    read: int
    good: int
    quarantined: int
    warned: int
    per_second: float
    rules: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PipelineSnapshot:
    """One pipeline. `state` is the supervisor's phase, or `unknown` when it does not answer."""

    pipeline: str
    description: str = ""
    owner: str = ""
    state: str = UNKNOWN
    desired: str = UNKNOWN
    generation: int | None = None
    epoch: int | None = None
    applied_hash: str | None = None
    running_hash: str | None = None
    ordered_by: str = ""
    reason: str = ""
    failure_class: str | None = None
    conditions: tuple[str, ...] = ()
    restarts: int | None = None
    consecutive_failures: int | None = None
    next_attempt_at: float | None = None
    driver_alive: bool | None = None
    driver_version: str | None = None
    metrics_port: int | None = None
    ui_url: str | None = None
    lane: str | None = None  # of its records, and why
    rows: Rows | None = None
    lag_records: int | None = None
    lag_seconds: float | None = None
    last_commit_at: float | None = None
    batch_id: int | None = None
    verdict: str | None = None
    verdicts: tuple[OutputVerdict, ...] = ()
    queries: tuple[QuerySnapshot, ...] = ()
    events: tuple[Event, ...] = ()
    freshness: float | None = None
    quarantined_ratio: float | None = None
    trigger: float | None = None
    quality_every: float | None = None
    warn_rules: frozenset[str] = (
        frozenset()
    )  # those of the applied contract that keep no record from being good
    retention: dict[str, float] = field(default_factory=dict)
    airflow_finding: str | None = None  # paused | unwatched | ownerless | "" when the sweep found nothing
    contract_pending: bool = False
    outdated: bool = False
    rolled_back: bool | None = None  # its newest contract was taken back
    snapshot_at: float | None = None  # the newest snapshot, or the lineage's begin where that is later
    snapshot_every: float | None = None  # None without a schedule
    forgotten: bool | None = None  # it has run, and the supervisor has no record of it

    def to_json(self) -> dict[str, Any]:
        """The stable form of `headgate status --json` and /api/status. Moments are ISO 8601 in UTC."""
        return {
            "pipeline": self.pipeline,
            "state": self.state,
            "desired": self.desired,
            "generation": self.generation,
            "epoch": self.epoch,
            "driver_alive": self.driver_alive,
            "rows_read": self.rows.read if self.rows else None,
            "rows_good": self.rows.good if self.rows else None,
            "rows_quarantined": self.rows.quarantined if self.rows else None,
            "rows_warned": self.rows.warned if self.rows else None,
            "rows_per_second": round(self.rows.per_second, 2) if self.rows else None,
            "lag_records": self.lag_records,
            "lag_seconds": None if self.lag_seconds is None else round(self.lag_seconds, 3),
            "last_commit": moment(self.last_commit_at),
            "batch_id": self.batch_id,
            "verdict": self.verdict,
            "restarts": self.restarts,
            "consecutive_failures": self.consecutive_failures,
            "next_attempt": moment(self.next_attempt_at),
            "reason": self.reason,
            "failure_class": self.failure_class,
            "conditions": list(self.conditions),
            "contract": self.running_hash,
            "contract_applied": self.applied_hash,
            "contract_pending": self.contract_pending,
            "ordered_by": self.ordered_by,
            "ui_url": self.ui_url,
            "lane": self.lane,
            "rules": dict(self.rows.rules) if self.rows else {},
            "queries": [_query_json(query) for query in self.queries],
            "verdicts": [_verdict_json(verdict) for verdict in self.verdicts],
        }


@dataclass(frozen=True, slots=True)
class TopicHealth:
    topic: str
    drift: int
    recreated: bool | None


@dataclass(frozen=True, slots=True)
class PlatformSnapshot:
    """Everything at one moment."""

    at: float
    env: str
    pipelines: tuple[PipelineSnapshot, ...]
    sources: tuple[SourceHealth, ...]
    topics: tuple[TopicHealth, ...] = ()
    producers: tuple[tuple[str, int], ...] = ()  # pipeline and metrics port
    reconciled: dict[str, float] = field(default_factory=dict)  # process to the end of its last round

    def pipeline(self, name: str) -> PipelineSnapshot | None:
        return next((item for item in self.pipelines if item.pipeline == name), None)

    def down(self) -> tuple[SourceHealth, ...]:
        return tuple(source for source in self.sources if not source.up)

    def to_json(self) -> dict[str, Any]:
        return {
            "at": moment(self.at),
            "env": self.env,
            "pipelines": [
                {**item.to_json(), "events": [_event_json(event) for event in item.events]}
                for item in self.pipelines
            ],
            "sources": [
                {
                    "name": source.name,
                    "up": source.up,
                    "last_success": moment(source.succeeded_at),
                    "error": source.error,
                }
                for source in self.sources
            ],
        }


def moment(seconds: float | None) -> str | None:
    """A Unix time as ISO 8601 in UTC with milliseconds."""
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _query_json(query: QuerySnapshot) -> dict[str, Any]:
    return {
        "query": query.query,
        "batch_id": query.batch_id,
        "last_commit": moment(query.last_commit_at),
        "lag_records": query.lag_records,
        "lag_seconds": None if query.lag_seconds is None else round(query.lag_seconds, 3),
        "active": query.active,
        "error": query.error,
    }


def _verdict_json(verdict: OutputVerdict) -> dict[str, Any]:
    return {
        "output": verdict.output,
        "status": verdict.status,
        "severity": verdict.severity,
        "at": moment(verdict.at),
        "rows_checked": verdict.rows_checked,
        "failed": list(verdict.failed),
    }


def _event_json(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "at": moment(event.at),
        "kind": event.kind,
        "from": event.from_phase,
        "to": event.to_phase,
        "cause": event.cause,
        "actor": event.actor,
        "generation": event.generation,
        "epoch": event.epoch,
        "detail": event.detail,
    }
