"""Choices that end a stream: when all is read, or for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.airflow.proposals import (
    CUT_OFF,
    DEADLINE_SECONDS,
    Approval,
    Choice,
    Ground,
    Proposal,
    Request,
    ending,
    proposal_of,
    runs,
    why,
)
from headgate.streams.model import Desired, Phase, StreamStatus

if TYPE_CHECKING:
    from headgate.streams.client import SupervisorClient

__all__ = ["ENDING_CHOICES"]

DRAIN_SECONDS = 600.0  # for what the topics hold to be committed; past it nothing is stopped


def _propose_drain(ground: Ground, request: Request) -> Proposal:  # noqa: ARG001 -- every choice is asked so
    status, refusals = ground.status, []
    if status.desired is not Desired.RUNNING:
        refusals.append(f"{status.stream} is not wanted to run ({status.phase}): nothing would be drained")
    elif status.phase is Phase.PARKED:
        refusals.append(f"{status.stream} is parked, so nothing drains: {status.reason}")
    steps = (
        "the stream runs on until every query has committed what the topics hold at the order",
        "then the running batch commits, the driver ends, and the stream stays stopped",
        f"past {DRAIN_SECONDS:.0f} s the drain is given up: the stream runs on, and nothing is stopped",
    )
    return proposal_of(ground, steps, CUT_OFF, "nothing", refusals)


def _order_drain(
    client: SupervisorClient, request: Request, proposal: Proposal, approval: Approval
) -> StreamStatus:
    del proposal  # what is waited for is what the topics hold at the order
    return client.drain(
        request.pipeline,
        actor=approval.actor,
        reason=why(request, approval),
        deadline_seconds=DRAIN_SECONDS,
        stop_seconds=DEADLINE_SECONDS,
    )


def _propose_retire(ground: Ground, request: Request) -> Proposal:
    status, name = ground.status, request.pipeline
    refusals = [f"{status.stream} is retired already"] if status.phase is Phase.RETIRED else []
    steps = (
        *ending(status),
        f"starts and restarts of every kind end, and so do the DAGs of {name}, this one too",
        "its topics, tables, checkpoints, contracts and events stay",
        f"headgate apply {name}, then headgate start {name}, brings it back: it goes on from its checkpoint",
    )
    lost = "nothing while Kafka keeps the records; what retention takes meanwhile is not read"
    return proposal_of(ground, steps, CUT_OFF if runs(status) else "nothing", lost, refusals)


def _order_retire(
    client: SupervisorClient, request: Request, proposal: Proposal, approval: Approval
) -> StreamStatus:
    del proposal  # the fence has compared it with the stream
    return client.retire(
        request.pipeline,
        actor=approval.actor,
        reason=why(request, approval),
        deadline_seconds=DEADLINE_SECONDS,
    )


ENDING_CHOICES: tuple[Choice, ...] = (
    Choice(
        "drain and stop",
        "run on until what the topics hold now is committed, then stop",
        _propose_drain,
        _order_drain,
        seconds=DRAIN_SECONDS + 2 * DEADLINE_SECONDS,
    ),
    Choice(
        "retire",
        "end the stream for good; its data stays, its DAGs go",
        _propose_retire,
        _order_retire,
    ),
)
