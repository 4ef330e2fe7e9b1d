"""What the contracts that run say of their supervision; a contract that cannot be read says nothing."""

from __future__ import annotations

from dataclasses import replace

from headgate.contract.frozen import ContractStore
from headgate.contract.model import Job, seconds
from headgate.errors import NotFoundError
from headgate.streams.policy import Policy
from headgate.streams.record import StreamRecord

__all__ = ["Jobs"]

_DEFAULT_TRIGGER = 2.0


class Jobs:
    """Contracts never change, so each is read once."""

    def __init__(self, contracts: ContractStore) -> None:
        self._contracts = contracts
        self._known: dict[str, Job] = {}

    def trigger(self, record: StreamRecord) -> float:
        """The trigger interval, for the stall limit."""
        job = self._job(record)
        return seconds(job.trigger) if job else _DEFAULT_TRIGGER

    def memory(self, record: StreamRecord) -> str | None:
        """What its driver's JVM gets."""
        job = self._job(record)
        return job.memory if job else None

    def policy(self, record: StreamRecord, policy: Policy) -> Policy:
        """The figures of supervision, with those that are the contract's."""
        job = self._job(record)
        return replace(policy, stall_restart=seconds(job.stall_restart)) if job else policy

    def _job(self, record: StreamRecord) -> Job | None:
        known = self._known.get(record.contract_hash)
        if known is None:
            try:
                known = self._contracts.get(record.contract_hash).contract.job
            except (NotFoundError, ValueError):
                return None
            self._known[record.contract_hash] = known
        return known
