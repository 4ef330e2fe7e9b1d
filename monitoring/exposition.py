"""The exporter's /metrics: a snapshot as metric families, computed anew at each scrape.

A series is there only while its source answers: a dead source's last value would read as healthy. What
stays is the moment of each source's last success, so that the age of what is missing can be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Metric as Family
from prometheus_client.registry import Collector

from headgate.checkpoints.layout import RECORDS
from headgate.streams.model import Desired
from monitoring.catalogue import LABEL_VALUES, family
from monitoring.snapshot import UNKNOWN, PipelineSnapshot, PlatformSnapshot

__all__ = ["SnapshotCollector", "families"]

Samples = Iterable[tuple[tuple[str, ...], float]]
PHASES = LABEL_VALUES["headgate_stream_state"]["state"]
VERDICTS = LABEL_VALUES["headgate_quality_verdict"]["verdict"]
FINDINGS = LABEL_VALUES["headgate_stream_airflow_finding"]["finding"]
SEVERITIES = LABEL_VALUES["headgate_quality_verdict"]["severity"]


class SnapshotCollector(Collector):
    """A prometheus_client collector over whatever `snapshot()` returns at the time of the scrape."""

    def __init__(self, snapshot: Callable[[], PlatformSnapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Family]:
        return families(self._snapshot())

    def describe(self) -> Iterable[Family]:
        return ()  # registering must not compute a snapshot


def families(snapshot: PlatformSnapshot) -> Iterator[Family]:
    """All families of the exporter, without those that have no sample."""
    for name, sample in _SAMPLES.items():
        found = family(f"headgate_{name}", sample(snapshot))
        if found.samples:
            yield found


def _each(value: Callable[[PipelineSnapshot], float | None]) -> Callable[[PlatformSnapshot], Samples]:
    """One sample per pipeline that has a value."""

    def samples(snapshot: PlatformSnapshot) -> Samples:
        for item in snapshot.pipelines:
            found = value(item)
            if found is not None:
                yield (item.pipeline,), float(found)

    return samples


def _supervised(item: PipelineSnapshot) -> bool:
    return item.state != UNKNOWN


def _states(snapshot: PlatformSnapshot) -> Samples:
    for item in filter(_supervised, snapshot.pipelines):
        for phase in PHASES:
            yield (item.pipeline, phase), float(item.state == phase)


def _findings(snapshot: PlatformSnapshot) -> Samples:
    for item in snapshot.pipelines:
        if item.airflow_finding is not None:
            for finding in FINDINGS:
                yield (item.pipeline, finding), float(item.airflow_finding == finding)


def _rows(snapshot: PlatformSnapshot) -> Samples:
    for item in snapshot.pipelines:
        if item.rows is not None:
            yield (item.pipeline, "read"), item.rows.read
            yield (item.pipeline, "good"), item.rows.good
            yield (item.pipeline, "warned"), item.rows.warned
            yield (item.pipeline, "quarantined"), item.rows.quarantined


def _lag_records(snapshot: PlatformSnapshot) -> Samples:
    for item in snapshot.pipelines:
        for query in item.queries:
            for lag in query.partitions:
                yield (item.pipeline, query.query, lag.topic, str(lag.partition)), lag.records


def _lag_seconds(snapshot: PlatformSnapshot) -> Samples:
    for item in snapshot.pipelines:
        for query in item.queries:
            for topic, age in query.topic_seconds.items():
                yield (item.pipeline, query.query, topic), age


def _commits(snapshot: PlatformSnapshot) -> Samples:
    for item in snapshot.pipelines:
        for query in item.queries:
            if query.last_commit_at is not None:
                yield (item.pipeline, query.query), query.last_commit_at


def _conservation(snapshot: PlatformSnapshot) -> Samples:
    for item in snapshot.pipelines:
        for query in item.queries:
            if query.query == RECORDS and query.conservation_difference is not None:
                yield (item.pipeline, query.query), query.conservation_difference


def _retention(snapshot: PlatformSnapshot) -> Samples:
    for item in snapshot.pipelines:
        for topic, kept in item.retention.items():
            yield (item.pipeline, topic), kept


def _verdicts(snapshot: PlatformSnapshot) -> Samples:
    # All combinations, so that a change is a step from 1 to 0 and never a series that just ends:
    # alerts remember ended series for a while.
    for item in snapshot.pipelines:
        for verdict in item.verdicts:
            for severity in SEVERITIES:
                for status in VERDICTS:
                    hit = verdict.status == status and (verdict.severity or "none") == severity
                    yield (item.pipeline, verdict.output, severity, status), float(hit)


def _verdict_moments(snapshot: PlatformSnapshot) -> Samples:
    for item in snapshot.pipelines:
        for verdict in item.verdicts:
            yield (item.pipeline, verdict.output), verdict.at


def _succeeded(snapshot: PlatformSnapshot) -> Samples:
    for source in snapshot.sources:
        if source.succeeded_at is not None:
            yield (source.name,), source.succeeded_at


def _if_supervised(
    value: Callable[[PipelineSnapshot], float | None],
) -> Callable[[PlatformSnapshot], Samples]:
    return _each(lambda item: value(item) if _supervised(item) else None)


_SAMPLES: dict[str, Callable[[PlatformSnapshot], Samples]] = {
    "stream_desired": _each(
        lambda item: None if item.desired == UNKNOWN else item.desired == Desired.RUNNING
    ),
    "stream_state": _states,
    "stream_driver_alive": _each(lambda item: item.driver_alive),
    "stream_forgotten": _each(lambda item: item.forgotten),
    "stream_generation": _each(lambda item: item.generation),
    "stream_epoch": _each(lambda item: item.epoch),
    "stream_airflow_finding": _findings,
    "stream_rolled_back": _each(lambda item: item.rolled_back),
    "restarts_total": _if_supervised(lambda item: item.restarts),
    "contract_pending": _each(lambda item: item.contract_pending if item.running_hash else None),
    "driver_outdated": _each(lambda item: item.outdated if item.driver_alive else None),
    "committed_rows_total": _rows,
    "lag_records": _lag_records,
    "lag_seconds": _lag_seconds,
    "last_commit_timestamp_seconds": _commits,
    "conservation_difference": _conservation,
    "retention_seconds": _retention,
    "slo_freshness_seconds": _each(lambda item: item.freshness),
    "slo_quarantined_ratio": _each(lambda item: item.quarantined_ratio),
    "trigger_interval_seconds": _each(lambda item: item.trigger),
    "quality_interval_seconds": _each(lambda item: item.quality_every),
    "quality_verdict": _verdicts,
    "quality_verdict_timestamp_seconds": _verdict_moments,
    "snapshot_timestamp_seconds": _each(lambda item: item.snapshot_at),
    "snapshot_interval_seconds": _each(lambda item: item.snapshot_every),
    "topic_drift": lambda snapshot: [((topic.topic,), topic.drift) for topic in snapshot.topics],
    "topic_recreated": lambda snapshot: [
        ((topic.topic,), topic.recreated) for topic in snapshot.topics if topic.recreated is not None
    ],
    "reconcile_timestamp_seconds": lambda snapshot: [((p,), at) for p, at in snapshot.reconciled.items()],
    "exporter_source_up": lambda snapshot: [((source.name,), source.up) for source in snapshot.sources],
    "exporter_source_success_timestamp_seconds": _succeeded,
    "exporter_source_duration_seconds": lambda snapshot: [
        ((source.name,), source.seconds) for source in snapshot.sources
    ],
}
