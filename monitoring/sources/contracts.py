"""The applied contracts. A stored contract never changes, so each is read once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.errors import HeadgateError
from monitoring.readings import AppliedContract
from monitoring.watch import Reading

__all__ = ["ContractsReader"]


class ContractsReader:
    def __init__(self, state: Path) -> None:
        self._store = ContractStore(state)
        self._known: dict[str, FrozenContract] = {}

    def read(self) -> Reading[Mapping[str, AppliedContract]]:
        """All applied contracts by pipeline; one that cannot be read is a problem, not the end."""
        found, problems = {}, []
        for name, pointer in self._store.applied().items():
            try:
                frozen = self._known.get(pointer.hash) or self._store.get(pointer.hash)
            except (HeadgateError, ValueError, KeyError) as error:
                problems.append(f"{name}: {error}")
                continue
            self._known[pointer.hash] = frozen
            found[name] = AppliedContract(pointer, frozen)
        return Reading(found, tuple(problems))
