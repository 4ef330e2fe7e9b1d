"""Alerts on the way back: what a stream would be restored from, and that it was taken back."""

from __future__ import annotations

from monitoring.alert import Alert

__all__ = ["RECOVERY_ALERTS"]

RECOVERY_ALERTS: tuple[Alert, ...] = (
    Alert(
        name="SnapshotTooOld",
        expr="""
time() - max by (pipeline) (headgate_snapshot_timestamp_seconds)
> on (pipeline) 2 * max by (pipeline) (headgate_snapshot_interval_seconds)
and on (pipeline) max by (pipeline) (headgate_stream_state{state="running"}) == 1""",
        hold="15m",
        severity="ticket",
        no_data="OK",
        summary="The newest snapshot of {{ $labels.pipeline }} is too old. "
        "Next: headgate operations {{ $labels.pipeline }}",
        description="Pipeline {{ $labels.pipeline }} runs, and its newest snapshot is "
        "{{ $value | humanizeDuration }} old, which is more than two intervals of the schedule. A damaged "
        "checkpoint would have to go back as far as that.",
        blind="ReconcilerSilent",
    ),
    Alert(
        name="StreamUpgradeRolledBack",
        expr="max by (pipeline) (last_over_time(headgate_stream_rolled_back[15m])) == 1",
        hold="0m",
        severity="ticket",
        no_data="OK",
        summary="The changed contract of {{ $labels.pipeline }} was taken back. "
        "Next: headgate events {{ $labels.pipeline }}",
        description="Pipeline {{ $labels.pipeline }}: a contract that was applied did not become stable, and "
        "the stream went back to the last stable one and to the snapshot before it. It runs the old contract "
        "until somebody orders it again.",
        blind="StreamUpgradeRolledBack",
    ),
)
