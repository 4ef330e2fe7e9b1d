"""Batches that a table has and Spark has not committed, begun with another contract than the one to come.

Such a batch runs again under its own batch id, and what a table has of it stays. Judged by another contract,
a record that was bad before and is good now would be in no table and in no quarantine, or in both; so these
batches are ended with the contract that began them. A batch that nothing was written of is not among them:
the contract that could not get through it may be why there is another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headgate.checkpoints.layout import RECORDS, CheckpointLayout
from headgate.checkpoints.lineage import last_contract
from headgate.checkpoints.logs import newest
from headgate.checkpoints.sinks import newest_batch, sinks_of
from headgate.contract.frozen import FrozenContract
from headgate.tables.place import Place

__all__ = ["Unfinished", "unfinished_batches"]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """`contract` is the one that has begun the batch."""

    query: str
    batch: int
    contract: FrozenContract


def unfinished_batches(
    layout: CheckpointLayout,
    lineage: str,
    frozen: FrozenContract,
    tables: Place,
    contract: Callable[[str], FrozenContract],
) -> list[Unfinished]:
    """Of the queries of `frozen`, which is to run. `contract` gives one by its hash.

    Raises NotFoundError where a contract is not stored any more, RefusedError for a damaged lineage.
    """
    found = []
    for query in (RECORDS, *frozen.stateful_outputs):
        folder = layout.query(lineage, query)
        batch, committed = newest(folder / "offsets"), newest(folder / "commits")
        if batch is None or batch == committed:
            continue
        noted = last_contract(layout, lineage, query)
        if noted == frozen.hash:
            continue
        before = contract(noted)
        sinks = [sink for sink in sinks_of(before) if sink.query == query]
        if any(newest_batch(sink, tables, frozen.pipeline, lineage) >= batch for sink in sinks):
            found.append(Unfinished(query, batch, before))
    return found
