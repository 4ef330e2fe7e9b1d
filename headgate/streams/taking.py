"""Taking a snapshot as an operation: asked for by a person, or due by the schedule."""

from __future__ import annotations

import time
from collections.abc import Callable

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.snapshots import Snapshot, new_id, prune, take_snapshot
from headgate.contract.frozen import ContractStore
from headgate.errors import HeadgateError
from headgate.settings import Settings
from headgate.streams.operations import note
from headgate.streams.store import StateStore
from headgate.topics.back import running_contract

__all__ = ["take"]


def take(
    settings: Settings,
    store: StateStore,
    pipeline: str,
    *,
    actor: str,
    reason: str,
    wall: Callable[[], float] = time.time,
) -> Snapshot:
    """Copy the checkpoint, keep `snapshots.keep` of them. Raises RefusedError, HeadgateError, OSError."""
    at = wall()
    id = new_id(at)
    note(store, pipeline, "snapshot", id, "running", actor=actor, at=at)
    try:
        frozen = ContractStore(settings.state).get(running_contract(settings, pipeline))
        topics = {name: store.topic_id(name) or "" for name in sorted(set(frozen.topics.values()))}
        taken = take_snapshot(
            settings.snapshots_root,
            CheckpointLayout(settings.checkpoints, pipeline),
            frozen,
            settings.tables,
            id=id,
            topics=topics,
            reason=reason,
            at=at,
        )
    except (HeadgateError, OSError) as error:
        told = error.message if isinstance(error, HeadgateError) else str(error)
        note(store, pipeline, "snapshot", id, "failed", actor=actor, at=wall(), detail=told)
        raise
    needed = {id, *_needed(store, pipeline)}
    gone = prune(settings.snapshots_root, pipeline, settings.snapshots.keep, protected=needed)
    size = sum(mark.size for mark in taken.files.values())
    detail = f"{size} bytes" + (f"; removed {', '.join(gone)}" if gone else "")
    note(store, pipeline, "snapshot", id, "done", actor=actor, at=wall(), detail=detail)
    return taken


def _needed(store: StateStore, pipeline: str) -> set[str]:
    """Snapshots that an upgrade or an order may have to go back to."""
    found = set()
    for record in store.streams():
        if record.pipeline == pipeline:
            found |= {record.upgrade.snapshot} if record.upgrade is not None else set()
            found |= {record.origin.snapshot, record.origin.keep} if record.origin is not None else set()
    return found - {""}
