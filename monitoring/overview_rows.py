"""What the dashboard over all streams shows, as data."""

from __future__ import annotations

from monitoring.panels import Row, graph, stat

__all__ = ["OVERVIEW"]

OVERVIEW: tuple[Row, ...] = (
    Row(
        "Now",
        (
            stat("Streams wanted", "Streams that should run.", "none", "sum(headgate_stream_desired)"),
            stat("Drivers alive", "Drivers that live.", "none", "sum(headgate_stream_driver_alive)"),
            stat(
                "Alerts firing",
                "Without the Watchdog, which always fires.",
                "none",
                'count(ALERTS{alertstate="firing", alertname!="Watchdog"}) or vector(0)',
                limit=1,
            ),
            stat(
                "Parked",
                "Streams that nothing restarts by itself.",
                "none",
                'sum(headgate_stream_state{state="parked"})',
                limit=1,
            ),
            stat(
                "Worst lag",
                "Age of the oldest record that is not committed, over all streams.",
                "s",
                "max(headgate_lag_seconds)",
            ),
            stat(
                "Rows per second",
                "Records committed, over all streams.",
                "rowsps",
                'sum(rate(headgate_committed_rows_total{outcome="read"}[$__rate_interval]))',
            ),
        ),
    ),
    Row(
        "Streams",
        (
            graph(
                "Lag in seconds",
                "The worst query of each stream.",
                "s",
                ("max by (pipeline) (headgate_lag_seconds)", "{{pipeline}}"),
            ),
            graph(
                "Records per second",
                "Records committed.",
                "rowsps",
                (
                    'sum by (pipeline) (rate(headgate_committed_rows_total{outcome="read"}'
                    "[$__rate_interval]))",
                    "{{pipeline}}",
                ),
            ),
            graph(
                "Quarantined share of what the contract allows",
                "Over a quarter of an hour; from 1 on it is too much.",
                "percentunit",
                (
                    'sum by (pipeline) (increase(headgate_committed_rows_total{outcome="quarantined"}[15m])) '
                    '/ sum by (pipeline) (increase(headgate_committed_rows_total{outcome="read"}[15m])) '
                    "/ on (pipeline) max by (pipeline) (headgate_slo_quarantined_ratio)",
                    "{{pipeline}}",
                ),
                limit=1,
            ),
            graph(
                "Restarts",
                "By the supervisor after a failure, per hour.",
                "none",
                ("max by (pipeline) (increase(headgate_restarts_total[1h]))", "{{pipeline}}"),
            ),
            graph(
                "Phases",
                "1 is the phase that a stream is in.",
                "none",
                ("max by (pipeline, state) (headgate_stream_state) == 1", "{{pipeline}} {{state}}"),
            ),
            graph(
                "Failed checks",
                "Outputs whose newest verdict is failed or errored.",
                "none",
                (
                    'sum by (pipeline, verdict) (headgate_quality_verdict{verdict=~"failed|errored"})',
                    "{{pipeline}} {{verdict}}",
                ),
                limit=1,
            ),
        ),
    ),
    Row(
        "Topics and serving",
        (
            graph(
                "Topic drift",
                "Differences between the applied contracts and the topics as they are.",
                "none",
                ("max by (topic) (headgate_topic_drift)", "{{topic}}"),
                ("max by (topic) (headgate_topic_recreated)", "{{topic}} recreated"),
                limit=1,
            ),
            graph(
                "REST answers per second",
                "By HTTP status.",
                "reqps",
                (
                    "sum by (endpoint, status) (rate(headgate_serving_requests_total[$__rate_interval]))",
                    "{{endpoint}} {{status}}",
                ),
            ),
            graph(
                "REST answer time",
                "95 of 100 answers are faster.",
                "s",
                (
                    "histogram_quantile(0.95, sum by (endpoint, le) "
                    "(rate(headgate_serving_request_duration_seconds_bucket[$__rate_interval])))",
                    "{{endpoint}}",
                ),
            ),
        ),
    ),
    Row(
        "Monitoring itself",
        (
            graph(
                "Targets up",
                "1 when Prometheus could scrape the process.",
                "none",
                ("min by (job, instance) (up)", "{{job}} {{instance}}"),
            ),
            graph(
                "Sources of the exporter",
                "1 when the last read succeeded; what depends on a source that is 0 is unknown.",
                "none",
                ("min by (source) (headgate_exporter_source_up)", "{{source}}"),
            ),
            graph(
                "Time to read a source",
                "How long the exporter's last read took.",
                "s",
                ("max by (source) (headgate_exporter_source_duration_seconds)", "{{source}}"),
            ),
            graph(
                "Since a source was last read",
                "Age of what is shown.",
                "s",
                (
                    "time() - max by (source) (headgate_exporter_source_success_timestamp_seconds)",
                    "{{source}}",
                ),
            ),
            graph(
                "Since the last round",
                "Of the supervisor, the exporter and Airflow's sweep.",
                "s",
                ("time() - max by (process) (headgate_reconcile_timestamp_seconds)", "{{process}}"),
                limit=180,
            ),
        ),
    ),
)
