"""The definitions of all metrics as one frozen table: names, types, labels, and which process emits them.

Code, alerts, dashboards, documents and tests read it; `monitoring.catalogue` builds collectors from it.
"""

from __future__ import annotations

from collections.abc import Mapping

from monitoring.metric import Metric, counter, gauge, histogram, info

__all__ = ["LABEL_VALUES", "METRICS", "by_name"]

# From a small batch on an idle machine (50 ms is Spark's floor) to a batch that needs attention.
BATCH_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
# A read from Redis takes about a millisecond; a second is a page that nobody waits for.
REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# The linger time is 20 ms; an outage that the client rides out takes up to two minutes.
DELIVERY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0)

_PHASES = ("stopped", "starting", "running", "backoff", "stopping", "parked", "retired")

# The closed sets, by metric and label. Other labels take their values from contracts (pipeline, query,
# output, topic, rule), from Kafka (partition) or from the code (endpoint, source). Never an offset, a
# batch id, a path or an error's text: each new value is a new series for ever.
LABEL_VALUES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "headgate_rows_total": {"outcome": ("read", "good", "warned", "quarantined")},
    "headgate_committed_rows_total": {"outcome": ("read", "good", "warned", "quarantined")},
    "headgate_producer_records_total": {"outcome": ("sent", "acked", "spooled", "resent", "refused")},
    "headgate_stream_state": {"state": _PHASES},
    "headgate_quality_verdict": {
        "severity": ("none", "info", "warning", "critical"),
        "verdict": ("passed", "failed", "errored", "no_data"),
    },
    "headgate_stream_airflow_finding": {"finding": ("paused", "unwatched", "ownerless")},
    "headgate_reconcile_timestamp_seconds": {"process": ("exporter", "supervisor", "airflow")},
}


_P = ("pipeline",)
_PQ = ("pipeline", "query")

_DRIVER = (
    info(
        "stream_info",
        ("pipeline", "contract_version", "spark_version", "headgate_version"),
        "driver",
        "Always 1; what runs, for joins.",
    ),
    counter(
        "rows_total",
        ("pipeline", "query", "outcome"),
        "driver",
        "Records of committed batches by outcome; read = good + quarantined.",
    ),
    counter(
        "late_groups_total",
        _PQ,
        "driver",
        "Groups that came after the watermark and were left out: groups after partial aggregation.",
    ),
    counter(
        "rule_failures_total",
        ("pipeline", "rule", "severity"),
        "driver",
        "Records that broke a rule; severity is what the contract does with them.",
    ),
    gauge(
        "conservation_difference",
        _PQ,
        "driver exporter",
        "read - good - quarantined; anything but 0 is a record lost or counted twice.",
    ),
    histogram(
        "batch_duration_seconds",
        _PQ,
        "driver",
        "Time from the trigger of a batch to its commit.",
        buckets=BATCH_BUCKETS,
    ),
    gauge("batch_records_limit", _PQ, "driver", "Records that a batch of the query may have at most, now."),
    gauge(
        "batch_bytes", _PQ, "driver", "Keys and values of the query's last batch, as records were measured."
    ),
    gauge("last_progress_timestamp_seconds", _PQ, "driver", "When the query last reported a batch."),
    gauge(
        "last_idle_timestamp_seconds",
        _PQ,
        "driver",
        "When the query last reported that there was nothing to read.",
    ),
    gauge(
        "last_task_timestamp_seconds",
        _PQ,
        "driver",
        "When a task of a long batch was last seen to have finished; 0 while no batch has been long.",
    ),
    gauge(
        "last_commit_timestamp_seconds",
        _PQ,
        "exporter driver",
        "When the newest batch was committed; the exporter reads it from the checkpoint.",
    ),
    gauge(
        "query_active",
        _PQ,
        "driver",
        "1 while the query runs in its driver; a driver can live on with a dead query.",
    ),
    counter(
        "query_starts_total",
        _PQ,
        "driver",
        "Starts of the query by this driver; every one after the first is for batches of another size.",
    ),
    gauge("watermark_timestamp_seconds", _PQ, "driver", "The query's watermark, as event time."),
    gauge("state_rows", _PQ, "driver", "Rows in the query's state store."),
    gauge("state_bytes", _PQ, "driver", "Memory that the query's state store uses."),
)

_EXPORTER = (
    gauge("stream_desired", _P, "exporter", "1 when the stream is wanted running, 0 when stopped."),
    gauge(
        "stream_state",
        ("pipeline", "state"),
        "exporter",
        "1 for the phase the stream is in, 0 for the others.",
    ),
    gauge(
        "stream_driver_alive", _P, "exporter", "1 when the supervisor sees the stream's driver process alive."
    ),
    gauge(
        "stream_forgotten",
        _P,
        "exporter",
        "1 when the supervisor has no record of a stream that has a checkpoint or a live driver.",
    ),
    gauge("stream_generation", _P, "exporter", "Orders to run so far; the newest is in force."),
    gauge("stream_epoch", _P, "exporter", "Incarnations of the driver so far."),
    gauge(
        "stream_airflow_finding",
        ("pipeline", "finding"),
        "exporter",
        "1 when Airflow's last sweep found the stream running while its DAG is paused, without a task that "
        "watches it, or without an owner.",
    ),
    gauge(
        "stream_rolled_back",
        _P,
        "exporter",
        "1 while the stream runs its last stable contract because a newer one was taken back.",
    ),
    counter("restarts_total", _P, "exporter", "Restarts of the driver by the supervisor after a failure."),
    gauge(
        "contract_pending", _P, "exporter", "1 when the stream runs another contract than the applied one."
    ),
    gauge(
        "driver_outdated",
        _P,
        "exporter",
        "1 when the driver runs another version of headgate than the exporter.",
    ),
    counter(
        "committed_rows_total",
        ("pipeline", "outcome"),
        "exporter",
        "Records in the books of the newest committed batch, by outcome; a restart does not reset it.",
    ),
    gauge(
        "lag_records",
        ("pipeline", "query", "topic", "partition"),
        "exporter",
        "Records between the committed offset and the topic's end, per query.",
    ),
    gauge(
        "lag_seconds",
        ("pipeline", "query", "topic"),
        "exporter",
        "Age of the oldest record that the query has not committed; 0 when there is none.",
    ),
    gauge(
        "retention_seconds",
        ("pipeline", "topic"),
        "exporter",
        "How long the topic keeps records, by contract; what lags longer is lost.",
    ),
    gauge("slo_freshness_seconds", _P, "exporter", "The contract's slo.freshness."),
    gauge("slo_quarantined_ratio", _P, "exporter", "The contract's slo.quarantined_ratio."),
    gauge("trigger_interval_seconds", _P, "exporter", "The contract's job.trigger."),
    gauge(
        "quality_verdict",
        ("pipeline", "output", "severity", "verdict"),
        "exporter",
        "1 for the output's newest verdict, 0 for the others; severity is the worst that failed.",
    ),
    gauge(
        "quality_verdict_timestamp_seconds",
        ("pipeline", "output"),
        "exporter",
        "When the output was last checked.",
    ),
    gauge("quality_interval_seconds", _P, "exporter", "The contract's quality.every."),
    gauge(
        "snapshot_timestamp_seconds",
        _P,
        "exporter",
        "When the newest snapshot was taken, or the lineage began where that is later.",
    ),
    gauge("snapshot_interval_seconds", _P, "exporter", "The schedule of snapshots; not there without one."),
    gauge(
        "topic_drift",
        ("topic",),
        "exporter",
        "Differences between the applied contract and the topic as it is.",
    ),
    gauge(
        "topic_recreated",
        ("topic",),
        "exporter",
        "1 when the topic has another id than the one that was provisioned.",
    ),
    gauge(
        "reconcile_timestamp_seconds",
        ("process",),
        "exporter",
        "When the process last finished a round of looking after streams.",
    ),
    gauge(
        "exporter_source_up",
        ("source",),
        "exporter",
        "1 when the exporter's last read of this source succeeded in time.",
    ),
    gauge(
        "exporter_source_success_timestamp_seconds",
        ("source",),
        "exporter",
        "When the exporter last read this source.",
    ),
    gauge(
        "exporter_source_duration_seconds",
        ("source",),
        "exporter",
        "How long the exporter's last read of this source took.",
    ),
)

_PRODUCER = (
    counter(
        "producer_records_total",
        ("pipeline", "outcome"),
        "producer",
        "Records by what became of them: sent (taken on), acked, spooled, resent, refused.",
    ),
    histogram(
        "producer_delivery_duration_seconds",
        _P,
        "producer",
        "Time from taking a record on to the broker's acknowledgement, of a sample of the records.",
        buckets=DELIVERY_BUCKETS,
    ),
    gauge("producer_buffer_bytes", _P, "producer", "Bytes that wait in the producer for the broker."),
    gauge(
        "producer_spooled_records", _P, "producer", "Records that could not be delivered and wait on disk."
    ),
)

_SERVING = (
    counter("serving_requests_total", ("endpoint", "status"), "serving", "Answers by route and HTTP status."),
    histogram(
        "serving_request_duration_seconds",
        ("endpoint",),
        "serving",
        "Time to answer a request.",
        buckets=REQUEST_BUCKETS,
    ),
)

METRICS: tuple[Metric, ...] = (*_DRIVER, *_EXPORTER, *_PRODUCER, *_SERVING)


def by_name(name: str) -> Metric:
    """The definition of a metric. Raises KeyError for a name that is not in the catalogue."""
    for metric in METRICS:
        if metric.name == name:
            return metric
    raise KeyError(f"{name} is not in monitoring.catalogue.METRICS")
