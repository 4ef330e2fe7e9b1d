"""The state store: the newest verdict of each output, and what is wanted when no supervisor answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from headgate.streams.store import StateStore
from monitoring.readings import AppliedContract, Stored, StoredStream
from monitoring.snapshot import OutputVerdict
from monitoring.watch import Reading

if TYPE_CHECKING:
    from headgate.quality.verdict import Verdict

__all__ = ["StoreReader"]


class StoreReader:
    def __init__(self, store_url: str, contracts: Callable[[], Mapping[str, AppliedContract]]) -> None:
        self._url = store_url
        self._contracts = contracts
        self._store: StateStore | None = None

    def read(self) -> Reading[Stored]:
        if self._store is None:
            self._store = StateStore(self._url)
        store = self._store
        streams = {
            each.pipeline: StoredStream(str(each.desired), each.generation, each.epoch)
            for each in store.streams()
        }
        verdicts = {name: tuple(map(_output, store.latest_verdicts(name))) for name in self._contracts()}
        return Reading(Stored(verdicts, streams))


def _output(verdict: Verdict) -> OutputVerdict:
    return OutputVerdict(
        output=verdict.output,
        status=verdict.status,
        severity=verdict.severity,
        at=verdict.at,
        rows_checked=verdict.rows_checked,
        failed=tuple(
            f"{each.name} {each.column}".strip() for each in verdict.expectations if not each.success
        ),
    )
