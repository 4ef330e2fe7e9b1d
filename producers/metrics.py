"""A producer's metrics, in a registry of their own, served on a loopback port."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from headgate.errors import UsageError
from monitoring.catalogue import build, precreate

if TYPE_CHECKING:
    from producers.counts import Counts

__all__ = ["ProducerMetrics"]


class ProducerMetrics:
    """The catalogue's producer metrics for one pipeline."""

    def __init__(self, pipeline: str) -> None:
        self.registry = CollectorRegistry()
        collectors = build(self.registry, "producer")
        precreate(collectors, {"pipeline": [pipeline]})
        self._pipeline = pipeline
        self._records = cast(Counter, collectors["headgate_producer_records_total"])
        self._buffer = cast(Gauge, collectors["headgate_producer_buffer_bytes"]).labels(pipeline)
        self._spooled = cast(Gauge, collectors["headgate_producer_spooled_records"]).labels(pipeline)
        self._latency = cast(Histogram, collectors["headgate_producer_delivery_duration_seconds"]).labels(
            pipeline
        )
        self._shown = dict.fromkeys(("sent", "acked", "resent", "spooled", "refused"), 0)

    def count(self, outcome: str, records: int) -> None:
        if records:
            self._records.labels(self._pipeline, outcome).inc(records)

    def observe(self, seconds: float) -> None:
        self._latency.observe(seconds)

    def show(self, counts: Counts, buffer_bytes: int, *, spooled: int) -> None:
        """Bring counters to the totals and gauges to what is now; `spooled`: that ever went to disk."""
        totals = {"sent": counts.sent, "acked": counts.delivered, "resent": counts.resent}
        totals |= {"spooled": spooled, "refused": counts.refused}
        for outcome, total in totals.items():
            self.count(outcome, total - self._shown[outcome])
        self._shown = totals
        self._buffer.set(buffer_bytes)
        self._spooled.set(counts.spooled)

    def serve(self, port: int) -> tuple[int, threading.Thread]:
        """Serve /metrics on loopback; port 0 takes a free one. Returns the port."""
        try:
            server, thread = start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"the metrics port {port} cannot be used: {reason}", help="--metrics-port 0"
            ) from error
        return server.server_port, thread
