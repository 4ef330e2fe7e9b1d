"""What a driver does about its checkpoint once it holds the claim, before anything of Spark runs."""

from __future__ import annotations

import logging

from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import Lineage, open_lineage
from headgate.checkpoints.origin import Origin, settle
from headgate.checkpoints.restore import Restore, finish_swap
from headgate.checkpoints.sinks import sinks_of
from headgate.checkpoints.snapshots import read_snapshot, take_snapshot
from headgate.checkpoints.wayback import choices_without, way_back
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.errors import NotFoundError, RefusedError
from headgate.settings import Settings
from headgate.topics.begin import first_origin
from headgate.topics.kafka import admin_client
from headgate.topics.live import topic_partitions

__all__ = ["settle_generation"]

_log = logging.getLogger("headgate.driver")


def settle_generation(
    settings: Settings,
    frozen: FrozenContract,
    origin: Origin | None,
    *,
    generation: int,
    spark_version: str,
    at: float,
) -> Lineage:
    """The lineage that this generation runs on. Done again, by a later epoch of it, it changes nothing.

    Raises RefusedError, and KafkaUnavailable where an upgrade needs a snapshot or a first start its offsets.
    """
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    finish_swap(layout)
    not_kept = _keep(settings, layout, origin, at) if origin is not None and origin.keep else ""
    if origin is not None and origin.kind == "snapshot":
        restored = _restored(
            settings, layout, frozen, origin, not_kept=not_kept, generation=generation, at=at
        )
        if restored is not None:
            return restored
        origin = None
    tables = [sink.path(settings.tables, frozen.pipeline) for sink in sinks_of(frozen)]
    if origin is None:
        return open_lineage(
            layout,
            contract_hash=frozen.hash,
            spark_version=spark_version,
            at=at,
            tables=tables,
            origin=lambda: first_origin(settings, frozen),
        )
    return settle(
        layout,
        origin,
        generation=generation,
        queries=(RECORDS, *frozen.stateful_outputs),
        contract_hash=frozen.hash,
        spark_version=spark_version,
        at=at,
        tables=tables,
        not_kept=not_kept,
    )


def _keep(settings: Settings, layout: CheckpointLayout, origin: Origin, at: float) -> str:
    """The snapshot before an upgrade: nothing of the new contract has run, nothing else runs. Why there is
    none, where that cannot be: what the upgrade itself began is not what was before it.

    Raises RefusedError for a damaged checkpoint that is to be gone on from.
    """
    found = way_back(settings.snapshots_root, layout, origin.keep, origin.contract)
    if found.kept or found.lost or layout.current_lineage() is None:
        return found.lost
    before = ContractStore(settings.state).get(origin.contract)
    with admin_client(settings) as admin:
        topics = {name: id for name, (id, _) in topic_partitions(admin, before.topics.values()).items()}
    try:
        take_snapshot(
            settings.snapshots_root,
            layout,
            before,
            settings.tables,
            id=origin.keep,
            topics=topics,
            reason="upgrade",
            at=at,
        )
    except RefusedError as error:
        if origin.kind == "checkpoint":
            raise
        # A damaged checkpoint may be why it is left. The lineage that begins says so, and the supervisor
        # shows it as a condition.
        _log.warning("%s", error.message)
        return error.message
    return ""


def _restored(
    settings: Settings,
    layout: CheckpointLayout,
    frozen: FrozenContract,
    origin: Origin,
    *,
    not_kept: str,
    generation: int,
    at: float,
) -> Lineage | None:
    """None for a way back whose snapshot was never taken, as nothing of the upgrade has run."""
    try:
        snapshot = read_snapshot(settings.snapshots_root, layout.pipeline, origin.snapshot)
    except NotFoundError:
        if origin.way:
            raise
        _refuse_moved_on(settings, layout, frozen, origin)
        return None
    sinks = sinks_of(ContractStore(settings.state).get(snapshot.contract_hash))
    restore = Restore(
        layout,
        snapshot,
        settings.snapshots_root,
        settings.tables,
        sinks,
        generation,
        origin.noted(not_kept),
        at,
    )
    return restore.run(origin.way)


def _refuse_moved_on(
    settings: Settings, layout: CheckpointLayout, frozen: FrozenContract, origin: Origin
) -> None:
    """To go on from what another contract has left would be no way back. Raises RefusedError."""
    lost = way_back(settings.snapshots_root, layout, origin.snapshot, frozen.hash).lost
    if lost:
        raise RefusedError(
            f"there is no way back to contract {frozen.hash[:12]} of {layout.pipeline}: {lost}",
            expected=f"the snapshot {origin.snapshot}, or the checkpoint as that contract has left it",
            help=choices_without(layout.pipeline),
        )
