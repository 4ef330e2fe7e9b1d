"""The alerts as data, and the Prometheus rules that are generated from them.

What every expression keeps to:

- Nothing that is missing reads as healthy. Where a series vanishes together with the process that
  made it, the expression remembers it (`last_over_time`) or another alert stands in for it:
  ReconcilerSilent for the exporter and the supervisor, ExporterSourceDown for what they look at.
- Thresholds that belong to a contract (freshness, quarantined ratio, trigger) come from the series
  that the exporter makes of the contract, so one rule serves every pipeline.
- `page` wakes somebody, `warn` is for today, `ticket` for this week, `none` is the Watchdog.
"""

from __future__ import annotations

from typing import Any

from monitoring.alert import Alert
from monitoring.recovery_alerts import RECOVERY_ALERTS

__all__ = ["ALERTS", "DRIVER_JOB", "EXPORTER_JOB", "Alert", "rules", "runbook_url"]

# Job names of the generated prometheus.yml, which expressions below refer to.
EXPORTER_JOB = "headgate-exporter"
DRIVER_JOB = "headgate-drivers"

_WANTED = "last_over_time(headgate_stream_desired[15m]) == 1"

ALERTS: tuple[Alert, ...] = (
    Alert(
        name="StreamDown",
        expr=f"""
max by (pipeline) ({_WANTED})
unless on (pipeline) (
  max by (pipeline) (headgate_stream_driver_alive) == 1
  or max by (pipeline) (up{{job="{DRIVER_JOB}"}}) == 1
)""",
        hold="2m",
        severity="page",
        summary="Stream {{ $labels.pipeline }} has no live driver. "
        "Next: headgate status {{ $labels.pipeline }}",
        description="Pipeline {{ $labels.pipeline }} is wanted running, and for 2 minutes neither the "
        "supervisor nor a scrape has seen its driver alive. Nothing is lost while Kafka keeps the records.",
        blind="StreamDown",
    ),
    Alert(
        name="StreamStalled",
        expr=f"""
sum by (pipeline, query) (headgate_lag_records) > 0
and on (pipeline) max by (pipeline) ({_WANTED})
unless on (pipeline, query) (
  time() - max by (pipeline, query) (headgate_last_commit_timestamp_seconds)
  < on (pipeline) group_left () clamp_min(3 * max by (pipeline) (headgate_trigger_interval_seconds), 60)
)
unless on (pipeline, query) (
  time() - max by (pipeline, query) (headgate_last_task_timestamp_seconds) < 60
)
unless on (pipeline, query) (
  time() - max by (pipeline, query) (headgate_last_idle_timestamp_seconds) < 60
)""",
        hold="4m",
        severity="page",
        summary="Query {{ $labels.query }} of {{ $labels.pipeline }} has records to read and commits "
        "nothing. Next: headgate events {{ $labels.pipeline }}",
        description="Pipeline {{ $labels.pipeline }}: {{ $value }} records wait for query "
        "{{ $labels.query }}, and for more than 4 minutes no batch was committed and no task finished.",
        blind="ReconcilerSilent",
    ),
    Alert(
        name="StreamLagGrowing",
        expr="""
deriv(sum by (pipeline, query) (headgate_lag_records)[10m:1m]) > 0
and on (pipeline, query) (
  max by (pipeline, query) (headgate_lag_seconds)
  > on (pipeline) group_left () max by (pipeline) (headgate_slo_freshness_seconds)
  or sum by (pipeline, query) (
    sum by (pipeline, query, topic) (headgate_lag_records) > 0
    unless on (pipeline, query, topic) headgate_lag_seconds
  )
)""",
        hold="15m",
        severity="warn",
        keep_firing_for="5m",
        summary="The lag of {{ $labels.pipeline }} ({{ $labels.query }}) keeps growing. "
        "Next: headgate status {{ $labels.pipeline }}",
        description="Pipeline {{ $labels.pipeline }}: query {{ $labels.query }} is behind its freshness "
        "target and falls back by {{ $value | humanize }} records a second, for 15 minutes.",
        blind="ReconcilerSilent",
    ),
    Alert(
        name="StreamParked",
        expr='max by (pipeline) (last_over_time(headgate_stream_state{state="parked"}[15m])) == 1',
        hold="0m",
        severity="page",
        summary="Stream {{ $labels.pipeline }} is parked: nothing restarts it by itself. "
        "Next: headgate status {{ $labels.pipeline }}",
        description="The supervisor gave up on pipeline {{ $labels.pipeline }}, or starting it would have "
        "done harm. The reason and the choices are in its status and its events.",
        blind="StreamParked",
    ),
    Alert(
        name="StreamForgotten",
        expr="max by (pipeline) (last_over_time(headgate_stream_forgotten[15m])) == 1",
        hold="2m",
        severity="page",
        summary="The supervisor does not know {{ $labels.pipeline }}, which has run. "
        "Next: headgate status {{ $labels.pipeline }}",
        description="Pipeline {{ $labels.pipeline }} has a checkpoint or a live driver, and the state store "
        "has no record of it: nothing restarts it, and whether it is wanted is not known.",
        blind="StreamForgotten",
    ),
    Alert(
        name="StreamRestartLoop",
        expr="max by (pipeline) (increase(headgate_restarts_total[15m])) > 3",
        hold="0m",
        severity="page",
        summary="Stream {{ $labels.pipeline }} crashes again and again. "
        "Next: headgate events {{ $labels.pipeline }}",
        description="The driver of pipeline {{ $labels.pipeline }} was restarted {{ $value | humanize }} "
        "times in 15 minutes. Each restart repeats one batch, which the sinks recognise.",
        blind="ReconcilerSilent",
    ),
    Alert(
        name="StreamPausedInAirflow",
        expr='max by (pipeline) (headgate_stream_airflow_finding{finding="paused"}) == 1',
        hold="5m",
        severity="warn",
        no_data="OK",
        summary="Stream {{ $labels.pipeline }} runs while its DAG is paused: Airflow would not show its end. "
        "Next: headgate status {{ $labels.pipeline }}",
        description="The DAG of pipeline {{ $labels.pipeline }} is paused and its stream goes on, as pausing "
        "stops nothing. Until the DAG is unpaused, an end of the stream leaves its task waiting.",
        blind="ReconcilerSilent",
    ),
    Alert(
        name="StreamUnwatched",
        expr='max by (pipeline, finding) (headgate_stream_airflow_finding{finding!="paused"}) == 1',
        hold="2m",
        severity="warn",
        no_data="OK",
        summary="Stream {{ $labels.pipeline }} runs and no task of Airflow watches it "
        "({{ $labels.finding }}). Next: headgate events {{ $labels.pipeline }}",
        description="Pipeline {{ $labels.pipeline }} was ordered by an Airflow task that ended without "
        "a person's doing, or by nobody. It is left running; clearing the task watches it again.",
        blind="ReconcilerSilent",
    ),
    Alert(
        name="QualityFailed",
        expr="""
max by (pipeline, output) (
  last_over_time(headgate_quality_verdict{severity="critical", verdict="failed"}[30m])
) == 1""",
        hold="0m",
        severity="page",
        no_data="OK",
        summary="A critical check of {{ $labels.pipeline }}/{{ $labels.output }} failed. "
        "Next: headgate check {{ $labels.pipeline }}",
        description="Pipeline {{ $labels.pipeline }}: a critical expectation on output "
        "{{ $labels.output }} failed. What is served stays at the last passed check.",
        blind="QualityFailed",
    ),
    Alert(
        name="QualityNotRun",
        expr=f"""
(
  max by (pipeline) (headgate_quality_interval_seconds)
  and on (pipeline) max by (pipeline) ({_WANTED})
)
unless on (pipeline) (
  time() - min by (pipeline) (headgate_quality_verdict_timestamp_seconds)
  < on (pipeline) 2 * max by (pipeline) (headgate_quality_interval_seconds) + 60
)
or max by (pipeline) (headgate_quality_verdict{{verdict="errored"}}) == 1""",
        hold="10m",
        severity="ticket",
        no_data="OK",
        summary="The quality of {{ $labels.pipeline }} is not known. "
        "Next: headgate check {{ $labels.pipeline }}",
        description="Pipeline {{ $labels.pipeline }}: for two periods there was no result of its quality "
        "check, or the check itself broke.",
        blind="ReconcilerSilent",
    ),
    Alert(
        name="QuarantineRatioHigh",
        expr="""
sum by (pipeline) (increase(headgate_committed_rows_total{outcome="quarantined"}[15m]))
/ on (pipeline) (sum by (pipeline) (increase(headgate_committed_rows_total{outcome="read"}[15m])) > 0)
> on (pipeline) max by (pipeline) (headgate_slo_quarantined_ratio)""",
        hold="5m",
        severity="warn",
        no_data="OK",
        summary="{{ $labels.pipeline }} puts too many records into quarantine. "
        "Next: headgate status {{ $labels.pipeline }}",
        description="Pipeline {{ $labels.pipeline }}: {{ $value | humanizePercentage }} of the records of "
        "the last 15 minutes were quarantined, which is more than the contract allows.",
        blind="ReconcilerSilent",
    ),
    Alert(
        name="ConservationBroken",
        expr="max by (pipeline, query) (abs(last_over_time(headgate_conservation_difference[15m]))) > 0",
        hold="0m",
        severity="page",
        summary="The books of {{ $labels.pipeline }} ({{ $labels.query }}) do not balance. "
        "Next: headgate audit {{ $labels.pipeline }}",
        description="Pipeline {{ $labels.pipeline }}: records read differ from good plus quarantined by "
        "{{ $value }}. A record was lost or counted twice.",
        blind="ConservationBroken",
    ),
    Alert(
        name="TopicRecreated",
        expr="max by (topic) (last_over_time(headgate_topic_recreated[15m])) == 1",
        hold="0m",
        severity="page",
        summary="Topic {{ $labels.topic }} was deleted and created again. Next: headgate plan",
        description="Topic {{ $labels.topic }} has another id than the one that was provisioned: offsets in "
        "checkpoints mean other records now. Streams that read it must not start from them.",
        blind="TopicRecreated",
    ),
    Alert(
        name="TopicDrift",
        expr="max by (topic) (headgate_topic_drift) > 0",
        hold="30m",
        severity="ticket",
        no_data="OK",
        summary="Topic {{ $labels.topic }} is not as its contract says. Next: headgate plan",
        description="Topic {{ $labels.topic }} differs from the applied contract in {{ $value }} places.",
        blind="ExporterSourceDown",
    ),
    *RECOVERY_ALERTS,
    Alert(
        name="ExporterSourceDown",
        expr="max by (source) (headgate_exporter_source_up) == 0",
        hold="2m",
        severity="warn",
        summary="The exporter cannot read {{ $labels.source }}. Next: headgate doctor",
        description="For 2 minutes the exporter could not read {{ $labels.source }}: what depends on it is "
        "not known, and is shown as unknown.",
        blind="ReconcilerSilent",
    ),
    Alert(
        name="ReconcilerSilent",
        expr="""
time() - max by (process) (headgate_reconcile_timestamp_seconds{process!="airflow"}) > 60
or time() - max by (process) (headgate_reconcile_timestamp_seconds{process="airflow"}) > 180
or absent(headgate_reconcile_timestamp_seconds{process="exporter"})
or absent(headgate_reconcile_timestamp_seconds{process="supervisor"})""",
        hold="2m",
        severity="page",
        summary="The {{ $labels.process }} does not report. Next: headgate doctor",
        description="For minutes the {{ $labels.process }} has not finished a round: streams run on, and "
        "nobody restarts, measures or sweeps them.",
        blind="ReconcilerSilent",
    ),
    Alert(
        name="Watchdog",
        expr="vector(1)",
        hold="0m",
        severity="none",
        summary="Always fires. Its silence means that alerting is broken. Next: headgate doctor",
        description="Send it to a receiver outside this machine, which calls when it stops coming.",
        blind="Watchdog",
    ),
)


def runbook_url(base: str, alert: str) -> str:
    """One pattern for all: the exporter serves docs/runbooks/<Alert>.md there."""
    return f"{base}/runbooks/{alert}"


def rules(base: str) -> dict[str, Any]:
    """The alerts as a Prometheus rule file; `base` is the address of the exporter."""
    return {"groups": [{"name": "headgate", "rules": [_rule(alert, base) for alert in ALERTS]}]}


def _rule(alert: Alert, base: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert.name, "expr": alert.expr.strip() + "\n", "for": alert.hold}
    if alert.keep_firing_for:
        rule["keep_firing_for"] = alert.keep_firing_for
    rule["labels"] = {"severity": alert.severity}
    rule["annotations"] = {
        "summary": alert.summary,
        "description": alert.description,
        "runbook_url": runbook_url(base, alert.name),
    }
    return rule
