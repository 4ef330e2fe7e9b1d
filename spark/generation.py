"""Where a live stream's driver begins: what its order asks for, under its claim and before Spark starts."""

from __future__ import annotations

import time
from pathlib import Path

from headgate.checkpoints.layout import CheckpointLayout
from headgate.checkpoints.lineage import Lineage
from headgate.checkpoints.origin import read_origin
from headgate.checkpoints.owner import OwnerClaim
from headgate.checkpoints.ran import note_ran
from headgate.checkpoints.settling import settle_generation
from headgate.contract.frozen import FrozenContract
from headgate.replays.swapping import Swapping
from headgate.settings import Settings
from spark.incarnation import Order

__all__ = ["begin_generation"]


def begin_generation(
    settings: Settings, frozen: FrozenContract, order: Order, claim: OwnerClaim, spark_version: str
) -> Lineage:
    """The lineage that this generation runs on. A swap that an earlier order has begun is brought to its end
    first: what this one does to the checkpoint would end what was proved for it."""
    origin = read_origin(Path(order.origin)) if order.origin else None
    replay = origin.replay if origin is not None else ""
    swapping = Swapping(settings, frozen.pipeline, order.generation, time.time(), claim.check)
    swapping.finish(besides=replay)
    lineage = settle_generation(
        settings,
        frozen,
        origin,
        generation=order.generation,
        spark_version=spark_version,
        at=time.time(),
    )
    if origin is not None and replay:
        swapping.carry_out(replay, origin.tables)
    note_ran(CheckpointLayout(settings.checkpoints, frozen.pipeline), lineage, frozen.hash)
    return lineage
