"""What the dashboard of one pipeline shows, as data."""

from __future__ import annotations

from monitoring.panels import Row, graph, quantile, stat

__all__ = ["PIPELINE"]

_THIS = 'pipeline="$pipeline"'

PIPELINE: tuple[Row, ...] = (
    Row(
        "Now",
        (
            stat(
                "State",
                "The supervisor's phase. Empty when the supervisor does not answer.",
                "none",
                f"headgate_stream_state{{{_THIS}}} == 1",
                legend="{{state}}",
                show="name",
            ),
            stat(
                "Lag",
                "Age of the oldest record that the worst query has not committed.",
                "s",
                f"max(headgate_lag_seconds{{{_THIS}}})",
            ),
            stat(
                "Rows per second",
                "Records committed, over the last minutes.",
                "rowsps",
                f'sum(rate(headgate_committed_rows_total{{{_THIS}, outcome="read"}}[$__rate_interval]))',
            ),
            stat(
                "Verdict",
                "Newest verdict of each output.",
                "none",
                f"max by (output, verdict) (headgate_quality_verdict{{{_THIS}}}) == 1",
                legend="{{output}} {{verdict}}",
                show="name",
            ),
            stat(
                "Restarts in a day",
                "Restarts by the supervisor after a failure.",
                "none",
                f"max(increase(headgate_restarts_total{{{_THIS}}}[1d]))",
                limit=3,
            ),
            stat(
                "Running",
                "Contract, Spark and headgate versions of the live driver.",
                "none",
                f"headgate_stream_info{{{_THIS}}}",
                legend="v{{contract_version}} · Spark {{spark_version}} · headgate {{headgate_version}}",
                show="name",
            ),
        ),
    ),
    Row(
        "Flow",
        (
            graph(
                "Records per second",
                "From the books of committed batches; a restart does not reset them.",
                "rowsps",
                (
                    f"sum by (outcome) (rate(headgate_committed_rows_total{{{_THIS}}}[$__rate_interval]))",
                    "{{outcome}}",
                ),
            ),
            graph(
                "Records per second, by query",
                "As the driver counts them. A stateful query reads the same records again.",
                "rowsps",
                (
                    f"sum by (query) (rate(headgate_rows_total{{{_THIS}, "
                    'outcome="read"}[$__rate_interval]))',
                    "{{query}}",
                ),
            ),
            graph(
                "Lag in records",
                "Committed offsets against the topic's end, also while the driver is dead.",
                "short",
                (f"sum by (query) (headgate_lag_records{{{_THIS}}})", "{{query}}"),
            ),
            graph(
                "Lag in seconds",
                "Age of the oldest record that is not committed, and the contract's freshness.",
                "s",
                (f"max by (query) (headgate_lag_seconds{{{_THIS}}})", "{{query}}"),
                (f"headgate_slo_freshness_seconds{{{_THIS}}}", "freshness by contract"),
            ),
            graph(
                "Share of retention used",
                "Lag against how long the topic keeps records: at 1, records are lost.",
                "percentunit",
                (
                    f"max by (topic) (headgate_lag_seconds{{{_THIS}}}) "
                    f"/ on (topic) max by (topic) (headgate_retention_seconds{{{_THIS}}})",
                    "{{topic}}",
                ),
                limit=0.5,
            ),
            graph(
                "Batch duration",
                "From the trigger to the commit, with the trigger interval of the contract.",
                "s",
                (quantile("0.5", "headgate_batch_duration_seconds", "query", _THIS), "{{query}} p50"),
                (quantile("0.95", "headgate_batch_duration_seconds", "query", _THIS), "{{query}} p95"),
                (f"headgate_trigger_interval_seconds{{{_THIS}}}", "trigger"),
            ),
            graph(
                "Batch size",
                "Keys and values of the last batch; the contract's `max_bytes_per_batch` bounds it.",
                "bytes",
                (f"max by (query) (headgate_batch_bytes{{{_THIS}}})", "{{query}}"),
            ),
            graph(
                "Batch limit",
                "Records that a batch may have: it follows from their size and from the time of batches.",
                "none",
                (f"max by (query) (headgate_batch_records_limit{{{_THIS}}})", "{{query}}"),
            ),
        ),
    ),
    Row(
        "Signs of life",
        (
            graph(
                "Since the last commit",
                "Per query, from the checkpoint. Grows while there is nothing to read, too.",
                "s",
                (
                    f"time() - max by (query) (headgate_last_commit_timestamp_seconds{{{_THIS}}})",
                    "{{query}}",
                ),
            ),
            graph(
                "Since the last word of a query",
                "A live query reports a batch or that it is idle every ten seconds.",
                "s",
                (
                    f"time() - max by (query) (headgate_last_progress_timestamp_seconds{{{_THIS}}})",
                    "{{query}} batch",
                ),
                (
                    f"time() - max by (query) (headgate_last_idle_timestamp_seconds{{{_THIS}}})",
                    "{{query}} idle",
                ),
            ),
            graph(
                "Driver and queries",
                "1 is alive. A driver can live on with a dead query.",
                "none",
                (f"headgate_stream_desired{{{_THIS}}}", "wanted"),
                (f"headgate_stream_driver_alive{{{_THIS}}}", "driver"),
                (f"min by (query) (headgate_query_active{{{_THIS}}})", "query {{query}}"),
            ),
            graph(
                "Generation and epoch",
                "Orders to run, incarnations of the driver, and starts of a query by the one that lives.",
                "none",
                (f"max by (query) (headgate_query_starts_total{{{_THIS}}})", "starts of {{query}}"),
                (f"headgate_stream_generation{{{_THIS}}}", "generation"),
                (f"headgate_stream_epoch{{{_THIS}}}", "epoch"),
            ),
            graph(
                "Behind what is applied",
                "1: the driver runs another contract than the applied one, or another headgate.",
                "none",
                (f"headgate_contract_pending{{{_THIS}}}", "contract pending"),
                (f"headgate_driver_outdated{{{_THIS}}}", "older headgate"),
            ),
            graph(
                "Watermark delay",
                "Wall clock minus the watermark. Constant while records come, growing while none do.",
                "s",
                (
                    f"time() - max by (query) (headgate_watermark_timestamp_seconds{{{_THIS}}})",
                    "{{query}}",
                ),
            ),
        ),
    ),
    Row(
        "Quality",
        (
            graph(
                "Quarantined share",
                "Of the records read, over a quarter of an hour, and what the contract allows.",
                "percentunit",
                (
                    f'sum(increase(headgate_committed_rows_total{{{_THIS}, outcome="quarantined"}}[15m])) '
                    f'/ sum(increase(headgate_committed_rows_total{{{_THIS}, outcome="read"}}[15m]))',
                    "quarantined",
                ),
                (f"headgate_slo_quarantined_ratio{{{_THIS}}}", "allowed by contract"),
            ),
            graph(
                "Rule failures",
                "Records a second that break a rule.",
                "rowsps",
                (
                    f"sum by (rule, severity) (rate(headgate_rule_failures_total{{{_THIS}}}"
                    "[$__rate_interval]))",
                    "{{rule}} ({{severity}})",
                ),
            ),
            graph(
                "Late groups",
                "Groups that came after the watermark and were left out of an output, per second.",
                "cps",
                (
                    f"sum by (query) (rate(headgate_late_groups_total{{{_THIS}}}[$__rate_interval]))",
                    "{{query}}",
                ),
            ),
            graph(
                "Conservation",
                "read - good - quarantined, as the driver and as the exporter count. Must be 0.",
                "none",
                (
                    f"max by (job, query) (abs(headgate_conservation_difference{{{_THIS}}}))",
                    "{{query}} by {{job}}",
                ),
                limit=1,
            ),
            graph(
                "Verdicts",
                "1 is the newest verdict of an output.",
                "none",
                (
                    f"max by (output, verdict) (headgate_quality_verdict{{{_THIS}}}) > 0",
                    "{{output}} {{verdict}}",
                ),
            ),
            graph(
                "Age of the verdict",
                "Since the last check, and how often the contract wants one.",
                "s",
                (
                    f"time() - max by (output) (headgate_quality_verdict_timestamp_seconds{{{_THIS}}})",
                    "{{output}}",
                ),
                (f"headgate_quality_interval_seconds{{{_THIS}}}", "interval by contract"),
            ),
        ),
    ),
    Row(
        "State and producer",
        (
            graph(
                "State rows",
                "Rows in the state store, per query.",
                "short",
                (f"max by (query) (headgate_state_rows{{{_THIS}}})", "{{query}}"),
            ),
            graph(
                "State memory",
                "Memory of the state store, per query.",
                "bytes",
                (f"max by (query) (headgate_state_bytes{{{_THIS}}})", "{{query}}"),
            ),
            graph(
                "Producer: records per second",
                "By what became of them.",
                "rowsps",
                (
                    f"sum by (outcome) (rate(headgate_producer_records_total{{{_THIS}}}[$__rate_interval]))",
                    "{{outcome}}",
                ),
            ),
            graph(
                "Producer: time to acknowledgement",
                "From send to the broker's acknowledgement.",
                "s",
                (quantile("0.5", "headgate_producer_delivery_duration_seconds", "pipeline", _THIS), "p50"),
                (quantile("0.95", "headgate_producer_delivery_duration_seconds", "pipeline", _THIS), "p95"),
            ),
            graph(
                "Producer: buffer",
                "Bytes that wait for the broker.",
                "bytes",
                (f"sum(headgate_producer_buffer_bytes{{{_THIS}}})", "buffer"),
            ),
            graph(
                "Producer: spool",
                "Records that could not be delivered and wait on disk.",
                "short",
                (f"sum(headgate_producer_spooled_records{{{_THIS}}})", "spooled"),
                limit=1,
            ),
        ),
    ),
)
