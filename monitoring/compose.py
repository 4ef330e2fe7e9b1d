"""Put what the sources gave together into one snapshot. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from headgate import __version__
from headgate.checkpoints.layout import RECORDS
from headgate.contract.model import seconds
from headgate.streams.model import Desired, DriverStatus, Phase, StreamStatus
from monitoring.conditions import FORGOTTEN, conditions, swept
from monitoring.readings import (
    AppliedContract,
    CheckpointReading,
    DriverReport,
    QueryLag,
    Readings,
)
from monitoring.snapshot import (
    UNKNOWN,
    OutputVerdict,
    PipelineSnapshot,
    PlatformSnapshot,
    QuerySnapshot,
    SourceHealth,
)

__all__ = ["compose"]

# From the worst to the best: a pipeline's verdict is that of its worst output.
_VERDICTS = ("failed", "errored", "no_data", "passed")


def compose(
    readings: Readings,
    *,
    at: float,
    env: str,
    sources: Sequence[SourceHealth],
    round_at: float | None = None,
) -> PlatformSnapshot:
    """One snapshot of everything; what a dead source would have told is None or `unknown`."""
    supervised = readings.supervised
    names = {*(readings.contracts or {})}
    names |= {stream.pipeline for stream in (supervised.streams if supervised else {}).values()}
    if readings.contracts is None:
        names |= {*(readings.drivers or {}), *(readings.checkpoints or {})}
    rounds = {
        "exporter": round_at,
        "supervisor": supervised.reconciled_at if supervised else None,
        "airflow": readings.sweep.at if readings.sweep else None,
    }
    return PlatformSnapshot(
        at=at,
        env=env,
        pipelines=tuple(_pipeline(name, readings, at) for name in sorted(names)),
        sources=tuple(sources),
        topics=readings.topics or (),
        producers=readings.producers or (),
        reconciled={process: moment for process, moment in rounds.items() if moment is not None},
    )


def _pipeline(name: str, readings: Readings, at: float) -> PipelineSnapshot:
    applied = (readings.contracts or {}).get(name)
    status = _status(name, readings)
    report = (readings.drivers or {}).get(name)
    snapshot = PipelineSnapshot(
        pipeline=name,
        **_promises(applied),
        **_supervision(name, status, report, readings),
        **_driver(status, report, applied),
        **_progress(name, status, report, readings),
        airflow_finding=swept(status, readings, at),
    )
    return replace(snapshot, conditions=tuple(conditions(snapshot, status, readings, at)))


def _status(name: str, readings: Readings) -> StreamStatus | None:
    streams = readings.supervised.streams if readings.supervised else {}
    return next((stream for stream in streams.values() if stream.pipeline == name), None)


def _promises(applied: AppliedContract | None) -> dict[str, Any]:
    """What the applied contract says that alerts and people compare with."""
    if applied is None:
        return {}
    contract = applied.frozen.contract
    retention = {}
    for name, source in contract.sources.items():
        value = source.config.get("retention.ms")
        if value is not None and int(value) >= 0:  # -1 keeps records for ever
            retention[applied.frozen.topics[name]] = int(value) / 1000
    return {
        "description": contract.description,
        "owner": contract.owner,
        "applied_hash": applied.pointer.hash,
        "freshness": seconds(contract.slo.freshness),
        "quarantined_ratio": contract.slo.quarantined_ratio,
        "trigger": seconds(contract.job.trigger),
        "quality_every": applied.pointer.quality_every,
        "warn_rules": frozenset(
            rule.name
            for source in contract.sources.values()
            for rule in source.rules
            if rule.otherwise == "warn"
        ),
        "retention": retention,
    }


def _supervision(
    name: str, status: StreamStatus | None, report: DriverReport | None, readings: Readings
) -> dict[str, Any]:
    if status is not None:
        return {
            "state": str(status.phase),
            "desired": str(status.desired),
            "generation": status.generation,
            "epoch": status.epoch,
            "ordered_by": status.owner.label if status.owner else "",
            "reason": status.reason,
            "failure_class": str(status.failure_class) if status.failure_class else None,
            "restarts": status.restarts,
            "consecutive_failures": status.consecutive_failures,
            "next_attempt_at": status.next_attempt_at,
            "events": (readings.supervised.events if readings.supervised else {}).get(status.stream, ()),
            "rolled_back": "rolled_back" in status.conditions,
            "forgotten": False,
        }
    if readings.supervised is not None and _has_run(name, report, readings):
        # The store was emptied or is another one: nobody knows whether it is wanted, so nobody runs it.
        return {"reason": f"{FORGOTTEN}; next: headgate start {name}", "forgotten": True}
    if readings.supervised is not None:
        return {
            "forgotten": False,
            "state": str(Phase.STOPPED),
            "desired": str(Desired.STOPPED),
            "generation": 0,
            "epoch": 0,
            "restarts": 0,
            "reason": f"never started; next: headgate start {name}",
        }
    stored = (readings.stored.streams if readings.stored else {}).get(name)
    known = stored or (report.status if report else None)
    return {
        "desired": stored.desired if stored else UNKNOWN,
        "reason": "the supervisor does not answer",
        "generation": known.generation if known else None,
        "epoch": known.epoch if known else None,
    }


def _has_run(name: str, report: DriverReport | None, readings: Readings) -> bool:
    checkpoint = (readings.checkpoints or {}).get(name, CheckpointReading())
    return bool(checkpoint.queries or checkpoint.lineage or (report and report.alive))


def _driver(
    status: StreamStatus | None, report: DriverReport | None, applied: AppliedContract | None
) -> dict[str, Any]:
    driver = _newest(status, report)
    alive = status.driver_alive if status is not None else None
    if alive is None and report is not None and driver is report.status:
        # The supervisor does not answer, or has just started and not looked yet: the file speaks.
        alive = report.alive
    current = bool(alive and driver)
    running = driver.contract_hash if driver and current else None
    if running is None and status is not None and status.desired is Desired.RUNNING:
        running = status.contract_hash  # what the next attempt starts with
    return {
        "driver_alive": alive,
        "driver_version": driver.headgate_version if driver else None,
        "metrics_port": driver.metrics_port if driver and current else None,
        "ui_url": driver.ui_url if driver and current else None,
        "lane": driver.lane if driver and current else None,
        "running_hash": running,
        "outdated": bool(current and driver and driver.headgate_version != __version__),
        "contract_pending": bool(running and applied and running != applied.pointer.hash),
    }


def _newest(status: StreamStatus | None, report: DriverReport | None) -> DriverStatus | None:
    """The driver's own file when it belongs to the epoch that the supervisor speaks of."""
    if report is not None and (status is None or report.status.epoch == status.epoch):
        return report.status
    return status.driver if status is not None else None


def _progress(
    name: str, status: StreamStatus | None, report: DriverReport | None, readings: Readings
) -> dict[str, Any]:
    checkpoint = (readings.checkpoints or {}).get(name, CheckpointReading())
    lags = (readings.lags or {}).get(name, {})
    driver = _newest(status, report)
    queries = tuple(
        _query(query, checkpoint, lags.get(query), driver)
        for query in sorted(
            {*checkpoint.queries, *lags, *(driver.queries if driver else {})}, key=_records_first
        )
    )
    commits = [query.last_commit_at for query in queries if query.last_commit_at is not None]
    records = checkpoint.queries.get(RECORDS)
    verdicts = (readings.stored.verdicts if readings.stored else {}).get(name, ())
    return {
        "queries": queries,
        "rows": checkpoint.rows,
        "snapshot_at": checkpoint.snapshot_at,
        "snapshot_every": checkpoint.snapshot_every,
        "lag_records": max((q.lag_records for q in queries if q.lag_records is not None), default=None),
        "lag_seconds": _oldest(queries),
        # The oldest of the queries' newest commits: a stream is as healthy as its worst query.
        "last_commit_at": min(commits, default=None),
        "batch_id": records.batch_id if records else None,
        "verdicts": verdicts,
        "verdict": _worst(verdicts),
    }


def _oldest(queries: Sequence[QuerySnapshot]) -> float | None:
    """None where a query lags and nobody knows for how long: the others' number would be too good."""
    if any(query.lag_records and query.lag_seconds is None for query in queries):
        return None
    return max((query.lag_seconds for query in queries if query.lag_seconds is not None), default=None)


def _records_first(query: str) -> tuple[bool, str]:
    return (query != RECORDS, query)


def _query(
    name: str, checkpoint: CheckpointReading, lag: QueryLag | None, driver: DriverStatus | None
) -> QuerySnapshot:
    committed = checkpoint.queries.get(name)
    progress = driver.queries.get(name) if driver else None
    return QuerySnapshot(
        query=name,
        batch_id=committed.batch_id if committed else None,
        last_commit_at=committed.committed_at if committed else None,
        last_task_at=progress.last_task_at if progress else None,
        lag_records=lag.records if lag else None,
        lag_seconds=lag.seconds if lag else None,
        partitions=lag.partitions if lag else (),
        topic_seconds=dict(lag.topic_seconds) if lag else {},
        active=progress.active if progress else None,
        error=progress.error if progress else None,
        conservation_difference=committed.conservation_difference if committed else None,
    )


def _worst(verdicts: Iterable[OutputVerdict]) -> str | None:
    found = {verdict.status for verdict in verdicts}
    return next((status for status in _VERDICTS if status in found), None)
