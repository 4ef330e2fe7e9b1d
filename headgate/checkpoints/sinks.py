"""The Delta tables of a pipeline: which query writes each, under which names, and whether rows have a key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headgate.checkpoints.layout import RECORDS, transaction_id
from headgate.contract.frozen import FrozenContract
from headgate.tables.delta import is_table, open_table
from headgate.tables.place import Place

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["QUARANTINE", "Sink", "newest_batch", "sinks_of", "versions_of"]

QUARANTINE = "_quarantine"


@dataclass(frozen=True, slots=True)
class Sink:
    """One table. `outputs` are the names inside its transaction ids; a keyed one is written by upserts."""

    table: str
    query: str
    outputs: tuple[str, ...]
    keyed: bool

    def transactions(self, pipeline: str, lineage: str) -> tuple[str, ...]:
        return tuple(transaction_id(pipeline, self.query, output, lineage) for output in self.outputs)

    def path(self, tables: Place, pipeline: str) -> Place:
        return tables / pipeline / self.table


def sinks_of(frozen: FrozenContract) -> tuple[Sink, ...]:
    """Every table of a contract, its quarantine last."""
    found = []
    for name, output in frozen.contract.outputs.items():
        query = name if frozen.outputs[name].stateful else RECORDS
        found += [Sink(t.delta, query, (name,), output.mode == "update") for t in output.to if t.delta]
    sources = tuple(f"{QUARANTINE}.{source}" for source in frozen.contract.sources)
    return (*found, Sink(QUARANTINE, RECORDS, sources, keyed=False))


def newest_batch(sink: Sink, tables: Place, pipeline: str, lineage: str) -> int:
    """The newest batch that a table holds of this lineage, -1 for none."""
    path = sink.path(tables, pipeline)
    if not is_table(path):
        return -1
    table = open_table(path)
    return max(_batch(table, name) for name in sink.transactions(pipeline, lineage))


def versions_of(
    sinks: Sequence[Sink], tables: Place, pipeline: str, lineage: str, queries: Mapping[str, int]
) -> dict[str, int]:
    """The newest version of each table that holds no batch after these of its query."""
    found = {}
    for sink in sinks:
        path = sink.path(tables, pipeline)
        if not is_table(path):
            continue
        table = open_table(path)
        names = sink.transactions(pipeline, lineage)
        while any(_batch(table, name) > queries[sink.query] for name in names):
            table = open_table(path, table.version() - 1)
        found[sink.table] = table.version()
    return found


def _batch(table: DeltaTable, transaction: str) -> int:
    found = table.transaction_version(transaction)
    return -1 if found is None else int(found)
