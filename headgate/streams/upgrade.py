"""A changed contract has to show that it is stable; one that does not is taken back, once. No I/O.

ordered with another contract than the last stable one
    → a snapshot is taken by the first driver, before anything of the new contract runs
N committed batches of each query, or idle reports through the
readiness time, and no failure in the last time                        → stable
parked, or dead again and again without progress, or up and silent     → back to the stable contract
                                                                         and the snapshot, once
the same, and what was before could not be kept                        → parked, with the choices
the way back fails too                                                 → as any failure: parked
"""

from __future__ import annotations

from dataclasses import replace

from headgate.checkpoints.origin import Origin
from headgate.checkpoints.wayback import WayBack, choices_without
from headgate.streams.model import FailureClass, Phase
from headgate.streams.policy import Judgement, Policy
from headgate.streams.record import Failure, StreamRecord, Upgrade

__all__ = ["judged", "ordered_contract", "pending", "proves", "stable", "told", "unready"]

# What a contract can bring about. Records that are gone, and a service that is away, it cannot.
_BY_CONTRACT = (
    FailureClass.DETERMINISTIC,
    FailureClass.CHECKPOINT,
    FailureClass.TRANSIENT,
    FailureClass.UNKNOWN,
)


def pending(record: StreamRecord) -> Upgrade | None:
    """The upgrade that is on trial, None when the contract is stable or was taken back."""
    upgrade = record.upgrade
    return upgrade if upgrade is not None and not upgrade.undone else None


def ordered_contract(before: StreamRecord, ordered: StreamRecord, now: float) -> StreamRecord:
    """An order's record, with the upgrade that it begins, goes on with, or gives up."""
    stable_hash, wanted = before.stable_hash, ordered.contract_hash
    if not stable_hash or wanted == stable_hash:
        return replace(ordered, upgrade=None)
    known = pending(before)
    if known is None or known.contract_hash != wanted:
        # Given up for yet another contract, the first one's snapshot is still the way back.
        name = known.snapshot if known is not None else f"upgrade-{ordered.generation}"
        known = Upgrade(wanted, stable_hash, name, now)
    origin = ordered.origin or Origin("checkpoint")
    origin = replace(origin, keep=known.snapshot, contract=stable_hash)
    return replace(ordered, upgrade=replace(known, begun_at=now, text=""), origin=origin)


def proves(record: StreamRecord) -> bool:
    """Whether a contract that has settled becomes the stable one. Failures are forgotten after a time of
    health; while one is remembered, a driver that comes up again and again proves nothing."""
    return (
        record.phase is Phase.RUNNING and record.contract_hash != record.stable_hash and not record.failures
    )


def stable(record: StreamRecord) -> StreamRecord:
    """The record once its contract is stable. What was kept for the way back is not kept again."""
    origin = record.origin
    if origin is not None and origin.keep:
        origin = None if origin.kind == "checkpoint" else replace(origin, keep="", contract="")
    return replace(record, stable_hash=record.contract_hash, upgrade=None, origin=origin)


def unready(record: StreamRecord, *, shown: bool, since: float, now: float, policy: Policy) -> str | None:
    """Why a driver of an upgrade is given up though it lives; None while there is time. `since`: from when
    on it could have shown something."""
    if pending(record) is None or shown or now - since < policy.trial_seconds:
        return None
    return (
        f"contract {record.contract_hash[:12]}: not every query has shown a batch, or that there is nothing "
        f"to do, within {policy.trial_seconds:.0f} s"
    )


def _ends_trial(death: Failure, verdict: Judgement, given_up: bool) -> bool:
    if death.failure not in _BY_CONTRACT or death.progressed:
        return False
    if (
        given_up
        or verdict.delay is None
        or death.failure in (FailureClass.DETERMINISTIC, FailureClass.CHECKPOINT)
    ):
        return True
    return sum(1 for past in verdict.failures if past.failure is not FailureClass.DEPENDENCY) >= 2


def judged(
    record: StreamRecord, death: Failure, verdict: Judgement, *, given_up: bool, back: WayBack
) -> tuple[StreamRecord, Judgement]:
    """What follows a death; for an upgrade that it ends, a new generation on the stable contract and the
    snapshot, at once, or the end where there is no way back. Owner and orderer stay. `given_up`: the
    supervisor has ended it as unhealthy."""
    upgrade = pending(record)
    if upgrade is None or not _ends_trial(death, verdict, given_up):
        return record, verdict
    text = f"contract {upgrade.contract_hash[:12]} was not stable ({death.failure}: {death.text})"
    if back.lost:
        return _no_way_back(record, upgrade, verdict, text, back.lost)
    where = f"to snapshot {upgrade.snapshot}" if back.kept else "to where it stands, as nothing else has run"
    text = f"{text}; back to {upgrade.stable_hash[:12]} and {where}"
    returned = replace(
        record,
        contract_hash=upgrade.stable_hash,
        generation=record.generation + 1,
        origin=Origin("snapshot", snapshot=upgrade.snapshot),
        upgrade=replace(upgrade, undone=True, text=text),
    )
    return returned, Judgement((), 0.0, f"rolled back: {text}")


def _no_way_back(
    record: StreamRecord, upgrade: Upgrade, verdict: Judgement, what: str, lost: str
) -> tuple[StreamRecord, Judgement]:
    """To go on from what the new contract has left would only look like a way back."""
    text = f"{what}, and there is no way back to contract {upgrade.stable_hash[:12]}: {lost}"
    parked = replace(record, upgrade=replace(upgrade, text=text))
    return parked, Judgement(verdict.failures, None, f"{text}. Choices: {choices_without(record.pipeline)}")


def told(before: StreamRecord, after: StreamRecord) -> tuple[str, str, str] | None:
    """What a step means for the upgrade as an operation: its name, state and detail."""
    old, new = pending(before), after.upgrade
    if new is not None and new.undone and old is not None:
        return new.snapshot, "failed", new.text
    if old is not None and new is not None and new.text and not old.text:
        return new.snapshot, "failed", new.text
    if old is not None and new is None and after.stable_hash == old.contract_hash:
        return old.snapshot, "done", f"contract {old.contract_hash[:12]} is stable"
    if old is not None and after.phase is Phase.STARTING and before.phase is not Phase.STARTING:
        return old.snapshot, "running", f"from {old.stable_hash[:12]} to {old.contract_hash[:12]}"
    return None
