"""What a driver counts and measures, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, start_http_server

from headgate import __version__
from headgate.batches.caps import Ended
from headgate.checkpoints.books import Page
from headgate.checkpoints.layout import RECORDS
from headgate.streams.model import QueryProgress
from monitoring.catalogue import build, precreate

if TYPE_CHECKING:
    from headgate.contract.frozen import FrozenContract

__all__ = ["DriverMetrics"]


class DriverMetrics:
    """The driver's collectors, in a registry of its own, served on a loopback port that the system picks."""

    def __init__(self, frozen: FrozenContract, queries: list[str], spark_version: str) -> None:
        self._registry = CollectorRegistry()
        self._pipeline = frozen.pipeline
        collectors = build(self._registry, "driver")
        self._metrics: Mapping[str, Any] = dict[str, Any](collectors)
        precreate(collectors, {"pipeline": [frozen.pipeline], "query": queries})
        self._rules = {
            rule.name: rule.otherwise for source in frozen.contract.sources.values() for rule in source.rules
        }
        for rule, severity in self._rules.items():
            self._metrics["headgate_rule_failures_total"].labels(frozen.pipeline, rule, severity)
        info = self._metrics["headgate_stream_info"]
        info.labels(frozen.pipeline, str(frozen.contract.version), spark_version, __version__).set(1)

    def serve(self) -> int:
        """Start serving; the port."""
        server, _ = start_http_server(0, addr="127.0.0.1", registry=self._registry)
        return int(server.server_port)

    def count(self, page: Page) -> None:
        """Add a page of the books."""
        rows = self._metrics["headgate_rows_total"]
        batch = page.batch
        outcomes = {
            "read": batch.read,
            "good": batch.good,
            "warned": batch.warned,
            "quarantined": batch.quarantined,
        }
        for outcome, number in outcomes.items():
            rows.labels(self._pipeline, RECORDS, outcome).inc(number)
        for rule, number in batch.rules.items():
            severity = self._rules.get(rule, "quarantine")
            self._metrics["headgate_rule_failures_total"].labels(self._pipeline, rule, severity).inc(number)
        difference = batch.read - batch.good - batch.quarantined
        self._metrics["headgate_conservation_difference"].labels(self._pipeline, RECORDS).set(difference)

    def progress(self, query: str, now: QueryProgress, late: int) -> None:
        labels = (self._pipeline, query)
        self._metrics["headgate_batch_duration_seconds"].labels(*labels).observe(now.batch_seconds)
        self._metrics["headgate_late_groups_total"].labels(*labels).inc(late)
        gauges = {
            "headgate_last_progress_timestamp_seconds": now.last_progress_at,
            "headgate_last_commit_timestamp_seconds": now.last_commit_at,
            "headgate_watermark_timestamp_seconds": now.watermark,
            "headgate_state_rows": now.state_rows,
            "headgate_state_bytes": now.state_bytes,
        }
        for name, value in gauges.items():
            if value is not None:
                self._metrics[name].labels(*labels).set(value)
        if query != RECORDS:
            self._metrics["headgate_rows_total"].labels(*labels, "read").inc(now.rows)

    def batch(self, query: str, ended: Ended) -> None:
        self._metrics["headgate_batch_records_limit"].labels(self._pipeline, query).set(ended.cap)
        if ended.bytes is not None:
            self._metrics["headgate_batch_bytes"].labels(self._pipeline, query).set(ended.bytes)

    def idle(self, query: str, at: float) -> None:
        self._metrics["headgate_last_idle_timestamp_seconds"].labels(self._pipeline, query).set(at)

    def task(self, query: str, at: float) -> None:
        self._metrics["headgate_last_task_timestamp_seconds"].labels(self._pipeline, query).set(at)

    def begun(self, query: str) -> None:
        self._metrics["headgate_query_starts_total"].labels(self._pipeline, query).inc()
        self._metrics["headgate_query_active"].labels(self._pipeline, query).set(1)

    def ended(self, query: str) -> None:
        self._metrics["headgate_query_active"].labels(self._pipeline, query).set(0)
