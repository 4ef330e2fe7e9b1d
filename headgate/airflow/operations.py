"""What a person may order from Airflow after an approval: the choices, their plans and their orders.

`CHOICES` is the whole of it: the form of the DAG `operate.<pipeline>`, the plan that is approved and the
order that follows all come from it. A choice says what would be read twice and what would be lost before
anybody is asked; it gives its order with the approver as the actor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.airflow.endings import ENDING_CHOICES
from headgate.airflow.origins import ORIGIN_CHOICES
from headgate.airflow.proposals import (
    CUT_OFF,
    DEADLINE_SECONDS,
    Approval,
    Choice,
    Ground,
    Proposal,
    Request,
    ending,
    fence,
    proposal_of,
    runs,
    unwatched,
    why,
)
from headgate.contract.frozen import FrozenContract
from headgate.errors import NotFoundError
from headgate.streams.model import Desired, Owner, Phase, StreamStatus

if TYPE_CHECKING:
    from headgate.streams.client import SupervisorClient

__all__ = [
    "CHOICES",
    "Approval",
    "Choice",
    "Ground",
    "Proposal",
    "Request",
    "choice",
    "fence",
    "unwatched",
]


def choice(name: str) -> Choice:
    """Raises NotFoundError."""
    for each in CHOICES:
        if each.name == name:
            return each
    raise NotFoundError(f"there is no action {name!r}", expected=", ".join(each.name for each in CHOICES))


def _propose_restart(ground: Ground, request: Request) -> Proposal:
    from headgate.checkpoints.preflight import preflight

    status, wanted = ground.status, ground.frozen.hash
    findings = preflight(ground.settings, ground.frozen)
    refusals = [str(finding) for finding in findings if finding.severity == "refuse"]
    if status.phase is Phase.RETIRED:
        refusals.append(f"{status.stream} is retired. Next: headgate apply {request.pipeline}")
    contract = f"contract {wanted[:12]}, as it runs now"
    if status.contract_hash != wanted:
        contract = f"contract {wanted[:12]}, which was applied and replaces {status.contract_hash[:12]}"
    steps = (
        *ending(status),
        f"a new driver starts from the checkpoint with {contract}; {_positions(status)}",
        *(f"note: {finding}" for finding in findings if finding.severity == "warn"),
    )
    return proposal_of(ground, steps, CUT_OFF if runs(status) else "nothing", "nothing", refusals)


def _propose_stop(ground: Ground, request: Request) -> Proposal:  # noqa: ARG001 -- every choice is asked so
    status, refusals = ground.status, []
    if status.desired is Desired.STOPPED:
        refusals.append(f"{status.stream} is stopped already{_by(status)}")
    steps = (*ending(status), *_watching(status), "the stream stays stopped until it is started again")
    lost = f"nothing while Kafka keeps the records: {_kept(ground.frozen)}"
    return proposal_of(ground, steps, CUT_OFF if runs(status) else "nothing", lost, refusals)


def _order_restart(
    client: SupervisorClient, request: Request, proposal: Proposal, approval: Approval
) -> StreamStatus:
    return client.restart(
        request.pipeline,
        actor=approval.actor,
        reason=why(request, approval),
        idempotency_key=approval.key,
        owner=Owner(kind="cli", user=approval.by),
        contract_hash=proposal.contract_hash,
    )


def _order_stop(
    client: SupervisorClient, request: Request, proposal: Proposal, approval: Approval
) -> StreamStatus:
    return client.stop(
        request.pipeline,
        actor=approval.actor,
        reason=why(request, approval),
        generation=proposal.generation,
        mode="graceful",
        deadline_seconds=DEADLINE_SECONDS,
    )


def _watching(status: StreamStatus) -> tuple[str, ...]:
    if unwatched(status) or status.owner is None:
        return ()
    return (f"the task {status.owner.task_id} of {status.owner.dag_id} ends as skipped, with who and why",)


def _positions(status: StreamStatus) -> str:
    queries = status.driver.queries if status.driver else {}
    told = [f"{name} has batch {each.batch_id}" for name, each in sorted(queries.items())]
    return f"committed so far: {', '.join(told)}" if told else "no driver has reported a batch"


def _kept(frozen: FrozenContract) -> str:
    told = []
    for name, source in frozen.contract.sources.items():
        kept = source.config.get("retention.ms")
        hours = None if kept is None else int(kept) / 3_600_000
        time = "as long as the broker's default" if hours is None else f"{hours:g} hours"
        told.append(f"{frozen.topics[name]} {'for ever' if hours is not None and hours < 0 else time}")
    return ", ".join(told)


def _by(status: StreamStatus) -> str:
    return f" by {status.stopped_by}" if status.stopped_by else ""


CHOICES: tuple[Choice, ...] = (
    Choice(
        "restart from checkpoint",
        "stop the driver after its batch and start a new one where it ended, with the applied contract",
        _propose_restart,
        _order_restart,
    ),
    Choice(
        "stop",
        "stop the driver after its batch; the stream stays stopped until it is started again",
        _propose_stop,
        _order_stop,
    ),
    *ENDING_CHOICES,
    *ORIGIN_CHOICES,
)
