"""What every query of a driver shares: the contract, where it writes, and the fences before each write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from headgate.batches.caps import BatchCaps
from headgate.checkpoints.layout import (
    RECORDS,
    CheckpointLayout,
    quarantine_table,
    table_path,
    transaction_id,
)
from headgate.checkpoints.lineage import Lineage
from headgate.checkpoints.owner import FencedError, OwnerClaim
from headgate.contract.frozen import FrozenContract
from headgate.errors import StoreUnavailable
from headgate.formats.decoder import Writers
from headgate.settings import Settings
from headgate.tables.place import Place
from serving.results import PublishOutcome, ResultRow, ResultStore
from spark.delta import DeltaSink
from spark.stop import StopGate

__all__ = ["DriverContext"]


@dataclass(frozen=True, slots=True)
class DriverContext:
    settings: Settings
    frozen: FrozenContract
    layout: CheckpointLayout
    lineage: Lineage
    generation: int
    epoch: int
    claim: OwnerClaim
    gate: StopGate
    results: ResultStore | None
    waiting: Callable[[str | None], None]  # told what a batch waits for, or None when it goes on
    caps: BatchCaps
    writers: Mapping[str, Writers] = field(default_factory=dict)  # by source, where a registry has them
    _sinks: dict[str, DeltaSink] = field(default_factory=dict)

    @property
    def books(self) -> Path:
        return self.layout.books(self.lineage.id)

    def before_batch(self) -> None:
        """The first line of every batch: a closed gate or a newer epoch ends the query here."""
        self.gate.check()
        self.claim.check()

    def before_write(self) -> None:
        """Right before each write: a driver that was frozen meanwhile must not write."""
        self.claim.check()

    def sink(self, output: str, query: str) -> DeltaSink | None:
        """The Delta table of an output, or None where it has none."""
        target = next((t.delta for t in self.frozen.contract.outputs[output].to if t.delta), None)
        if target is None:
            return None
        path = table_path(self.settings.tables, self.frozen.pipeline, target)
        return self._sink(path, query, output)

    def quarantine_sink(self, source: str) -> DeltaSink:
        """The quarantine under a source's own transaction id: one batch may bring bad records of each."""
        path = quarantine_table(self.settings.tables, self.frozen.pipeline)
        return self._sink(path, RECORDS, f"_quarantine.{source}")

    def publish(self, output: str, rows: Sequence[ResultRow], batch_id: int, watermark: float | None) -> None:
        """Write a batch's rows to Redis where the output goes there. Raises FencedError for an old epoch."""
        spec = self.frozen.contract.outputs[output]
        key = next((target.redis for target in spec.to if target.redis), None)
        if key is None or self.results is None:
            return
        resolved = self.frozen.outputs[output]
        publish = partial(
            self.results.publish,
            self.frozen.pipeline,
            output,
            epoch=self.epoch,
            batch_id=batch_id,
            rows=rows,
            published_key=key,
            keep=spec.keep,
            watermark=watermark,
            by_event_time=resolved.event_time is not None,
            window_seconds=resolved.window_seconds,
        )
        if self._patiently(publish) == PublishOutcome.FENCED:
            raise FencedError(f"Redis has rows of a newer epoch than {self.epoch} for {output}")

    def _patiently(self, publish: Callable[[], PublishOutcome]) -> PublishOutcome:
        """Wait for Redis as long as it takes: a service that is away for ten minutes is back-pressure, not
        a reason to restart. A stop and a newer epoch end the wait; the batch then runs again."""
        pause = 0.5
        while True:
            try:
                outcome = publish()
            except StoreUnavailable as error:
                self.waiting(f"Redis: {error.message}")
                self.gate.wait(pause)
                self.before_batch()
                pause = min(pause * 2, 5.0)
            else:
                self.waiting(None)
                return outcome

    def _sink(self, path: Place, query: str, output: str) -> DeltaSink:
        transaction = transaction_id(self.frozen.pipeline, query, output, self.lineage.id)
        if transaction not in self._sinks:
            self._sinks[transaction] = DeltaSink(path, transaction)
        return self._sinks[transaction]
