"""What a driver does about its checkpoint once it holds the claim, before anything of Spark runs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import Lineage, open_lineage
from headgate.checkpoints.origin import Origin, settle
from headgate.checkpoints.restore import Restore, finish_swap
from headgate.checkpoints.sinks import sinks_of
from headgate.checkpoints.snapshots import read_snapshot, take_snapshot
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.errors import NotFoundError, RefusedError
from headgate.replays.swapping import carry_out
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
    check: Callable[[], None] = lambda: None,
) -> Lineage:
    """The lineage that this generation runs on. Done again, by a later epoch of it, it changes nothing.
    `check` looks at the claim once more, before each table that is swapped.

    Raises RefusedError, and KafkaUnavailable where an upgrade needs a snapshot or a first start its offsets.
    """
    lineage = _settled(settings, frozen, origin, generation=generation, spark_version=spark_version, at=at)
    if origin is not None and origin.replay:
        carry_out(settings, origin.replay, origin.tables, generation=generation, at=at, check=check)
    return lineage


def _settled(
    settings: Settings,
    frozen: FrozenContract,
    origin: Origin | None,
    *,
    generation: int,
    spark_version: str,
    at: float,
) -> Lineage:
    layout = CheckpointLayout(settings.checkpoints, frozen.pipeline)
    finish_swap(layout)
    if origin is not None and origin.keep:
        _keep(settings, layout, origin, at)
    if origin is not None and origin.kind == "snapshot":
        restored = _restored(settings, layout, origin, generation, at)
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
    )


def _keep(settings: Settings, layout: CheckpointLayout, origin: Origin, at: float) -> None:
    """The snapshot before an upgrade: nothing of the new contract has run, nothing else runs."""
    if layout.current_lineage() is None:
        return
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
        # A damaged checkpoint may be why it is left; then it is no way back either.
        _log.warning("%s", error.message)


def _restored(
    settings: Settings, layout: CheckpointLayout, origin: Origin, generation: int, at: float
) -> Lineage | None:
    """None for a way back whose snapshot was never taken: then nothing has run since either."""
    try:
        snapshot = read_snapshot(settings.snapshots_root, layout.pipeline, origin.snapshot)
    except NotFoundError:
        if origin.way == "":
            return None
        raise
    sinks = sinks_of(ContractStore(settings.state).get(snapshot.contract_hash))
    restore = Restore(
        layout,
        snapshot,
        settings.snapshots_root,
        settings.tables,
        sinks,
        generation,
        origin.to_json(),
        at,
    )
    return restore.run(origin.way)
