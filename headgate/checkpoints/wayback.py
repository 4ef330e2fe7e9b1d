"""Whether an upgrade can be taken back: looked up in the files each time, by its driver and the supervisor.

    the snapshot that was taken before it is there              back to that
    the current lineage is as the stable contract has left it   back to where it stands; nothing else ran
    anything else                                               no way back, and why

What stood before may be damaged, which is why an order begins somewhere else: then no snapshot of it can be
taken. That is noted in the lineage that begins instead, so it is known as long as that lineage is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import last_contract, read_lineage
from headgate.errors import RefusedError

__all__ = ["MANIFEST", "NOT_KEPT", "WayBack", "choices_without", "way_back"]

MANIFEST = "snapshot.json"
NOT_KEPT = "not_kept"  # in a lineage's origin: why what was before it could not be kept


@dataclass(frozen=True, slots=True)
class WayBack:
    """`kept`: the snapshot is there. `lost`: why there is no way back; empty while there is one."""

    kept: bool = True
    lost: str = ""


def way_back(snapshots: Path, layout: CheckpointLayout, snapshot: str, contract: str) -> WayBack:
    """The way back to `contract` for the upgrade that was to keep `snapshot`."""
    if (snapshots / layout.pipeline / snapshot / MANIFEST).is_file():
        return WayBack()
    try:
        return WayBack(False, _moved_on(layout, snapshot, contract))
    except RefusedError as error:
        return WayBack(False, error.message)


def choices_without(pipeline: str) -> str:
    """What a person can do where nothing can be taken back."""
    return (
        f"(1) correct the contract's file, or put the earlier one back, headgate plan, headgate apply, then "
        f"headgate restart {pipeline}: it goes on from the checkpoint, if that fits. "
        f"(2) headgate snapshot list {pipeline}, then headgate restart {pipeline} --from snapshot: an older "
        f"one. (3) headgate restart {pipeline} --from earliest (latest, timestamp, offsets) begins anew, and "
        f"first says what that repeats or skips."
    )


def _moved_on(layout: CheckpointLayout, snapshot: str, contract: str) -> str:
    """Why the current lineage is not what `contract` has left. Raises RefusedError for a damaged one."""
    current = layout.current_lineage()
    if current is None:
        return ""
    begun = read_lineage(layout, current).origin or {}
    if begun.get("keep") == snapshot:
        return str(
            begun.get(NOT_KEPT) or f"lineage {current} is the upgrade's own, and {snapshot} is not there"
        )
    # The record query's note comes first: before any other query of a contract has run.
    last = last_contract(layout, current, RECORDS)
    if last != contract:
        return f"contract {last[:12]} has run on lineage {current}, and the snapshot {snapshot} is not there"
    return ""
