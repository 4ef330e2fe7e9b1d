"""The Delta tables of a pipeline: which query writes each, under which names, and whether rows have a key."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.checkpoints.layout import RECORDS, transaction_id
from headgate.contract.frozen import FrozenContract
from headgate.tables.place import Place

__all__ = ["QUARANTINE", "Sink", "sinks_of"]

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
