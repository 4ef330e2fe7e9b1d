"""Choices that begin a stream elsewhere than at its checkpoint. Each says what it repeats and skips first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from headgate.airflow import access
from headgate.airflow.proposals import Approval, Choice, Ground, Proposal, Request, ending, proposal_of, why
from headgate.streams.model import Owner, StreamStatus

if TYPE_CHECKING:
    from headgate.checkpoints.choices import OriginPlan
    from headgate.streams.client import SupervisorClient

__all__ = ["ORIGIN_CHOICES"]


def _planned(kind: str, ground: Ground, value: str) -> OriginPlan:
    from headgate.topics.back import plan_restore
    from headgate.topics.begin import plan_origin

    if kind == "snapshot":
        return plan_restore(ground.settings, ground.frozen, value or None)
    return plan_origin(ground.settings, ground.frozen, kind, timestamp=value)


def _propose(kind: str) -> Callable[[Ground, Request], Proposal]:
    def propose(ground: Ground, request: Request) -> Proposal:
        plan = _planned(kind, ground, request.value)
        steps = (
            *ending(ground.status),
            f"a new driver begins from {plan.origin.told}",
            *(f"table {effect.table}: {effect.text}" for effect in plan.effects),
            *plan.notes,
        )
        repeated, lost = f"{plan.repeats} records are read again", f"{plan.loses} records are skipped"
        proposal = proposal_of(ground, steps, repeated, lost, list(plan.problems))
        return replace(proposal, detail={"origin": plan.origin.to_json()})

    return propose


def _accept_topics(contract_hash: str) -> None:
    """A topic that was made anew has been agreed to: its offsets were shown."""
    from headgate.contract.frozen import ContractStore
    from headgate.topics.begin import accept_topics

    settings = access.settings()
    accept_topics(settings, ContractStore(settings.state).get(contract_hash))


def _order(
    client: SupervisorClient, request: Request, proposal: Proposal, approval: Approval
) -> StreamStatus:
    from headgate.checkpoints.origin import Origin

    origin = Origin.from_json(proposal.detail["origin"])
    status = client.restart(
        request.pipeline,
        actor=approval.actor,
        reason=why(request, approval),
        idempotency_key=approval.key,
        owner=Owner(kind="cli", user=approval.by),
        contract_hash=proposal.contract_hash,
        origin=origin,
    )
    if origin.offsets:
        _accept_topics(proposal.contract_hash)
    return status


ORIGIN_CHOICES: tuple[Choice, ...] = (
    Choice(
        "restart from snapshot",
        "go back to a snapshot; what came after it runs again",
        _propose("snapshot"),
        _order,
        value="the snapshot's id; empty: the newest good one",
    ),
    Choice(
        "restart from earliest",
        "a new lineage that reads again all that the topics still hold",
        _propose("earliest"),
        _order,
    ),
    Choice(
        "restart from latest",
        "a new lineage at the end of the topics; what was not read until now is skipped",
        _propose("latest"),
        _order,
    ),
    Choice(
        "restart from timestamp",
        "a new lineage at the first records that arrived at or after a time",
        _propose("timestamp"),
        _order,
        value="the time, such as 2026-01-31T06:00:00Z",
    ),
)
