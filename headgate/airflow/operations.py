"""What a person may order from Airflow after an approval: the choices, their plans and their orders.

`CHOICES` is the whole of it: the form of the DAG `operate.<pipeline>`, the plan that is approved and the
order that follows all come from it. A choice says what would be read twice and what would be lost before
anybody is asked; it gives its order with the approver as the actor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from headgate.contract.frozen import FrozenContract
from headgate.errors import NotFoundError, RefusedError
from headgate.settings import Settings
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

DEADLINE_SECONDS = 60.0  # for the running batch to commit, before the driver is killed


@dataclass(frozen=True, slots=True)
class Request:
    """What was filled into the form. `value` is what the choice needs beside its name, or empty."""

    pipeline: str
    action: str
    reason: str
    value: str = ""
    asked_by: str = ""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a plan is made from: the applied contract and the stream as it is now."""

    settings: Settings
    frozen: FrozenContract
    status: StreamStatus


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would happen, for the stream as it was seen: another generation needs another plan.

    `detail` is what the order needs of the plan, so that it orders what was shown and looks nothing up
    again; JSON, since it travels through an XCom.
    """

    steps: tuple[str, ...]
    repeated: str
    lost: str
    generation: int
    desired: str
    contract_hash: str
    refusals: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Proposal:
        lists = {name: tuple(data[name]) for name in ("steps", "refusals")}
        return cls(**{**data, **lists})


@dataclass(frozen=True, slots=True)
class Approval:
    """Who said yes, and the run of Airflow in which it was said: one order per run, however often asked."""

    by: str
    dag_id: str
    run_id: str

    @property
    def actor(self) -> str:
        return f"airflow:{self.by}@{self.dag_id}"

    @property
    def key(self) -> str:
        return f"operate-{hashlib.sha256(f'{self.dag_id}/{self.run_id}'.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that can be ordered. `value` says what the form's second field means, or is empty."""

    name: str
    help: str
    propose: Callable[[Ground, Request], Proposal]
    order: Callable[[SupervisorClient, Request, Proposal, Approval], StreamStatus]
    value: str = ""


def choice(name: str) -> Choice:
    """Raises NotFoundError."""
    for each in CHOICES:
        if each.name == name:
            return each
    raise NotFoundError(f"there is no action {name!r}", expected=", ".join(each.name for each in CHOICES))


def fence(proposal: Proposal, status: StreamStatus) -> None:
    """Raises RefusedError when the stream is not the one that the plan was made for."""
    if (status.generation, str(status.desired)) == (proposal.generation, proposal.desired):
        return
    who = status.owner.label if status.owner else "nobody"
    raise RefusedError(
        f"{status.stream} has changed since the plan: generation {proposal.generation}, "
        f"{proposal.desired}, became generation {status.generation}, {status.desired}, held by {who}",
        expected="the stream as it was when the plan was approved",
        help="trigger this DAG again to see a new plan",
    )


def unwatched(status: StreamStatus) -> bool:
    """Whether no task of Airflow waits for the stream any more: it was stopped, parked or taken away."""
    waits = status.desired is Desired.RUNNING and status.phase is not Phase.PARKED
    return not (waits and status.owner is not None and status.owner.kind == "airflow")


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
        *_ending(status),
        f"a new driver starts from the checkpoint with {contract}; {_positions(status)}",
        *(f"note: {finding}" for finding in findings if finding.severity == "warn"),
    )
    return _proposal(ground, steps, _CUT_OFF if _runs(status) else "nothing", "nothing", refusals)


def _propose_stop(ground: Ground, request: Request) -> Proposal:  # noqa: ARG001 -- every choice is asked so
    status, refusals = ground.status, []
    if status.desired is Desired.STOPPED:
        refusals.append(f"{status.stream} is stopped already{_by(status)}")
    steps = (*_ending(status), *_watching(status), "the stream stays stopped until it is started again")
    lost = f"nothing while Kafka keeps the records: {_kept(ground.frozen)}"
    return _proposal(ground, steps, _CUT_OFF if _runs(status) else "nothing", lost, refusals)


def _order_restart(
    client: SupervisorClient, request: Request, proposal: Proposal, approval: Approval
) -> StreamStatus:
    return client.restart(
        request.pipeline,
        actor=approval.actor,
        reason=_why(request, approval),
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
        reason=_why(request, approval),
        generation=proposal.generation,
        mode="graceful",
        deadline_seconds=DEADLINE_SECONDS,
    )


def _propose_origin(kind: str) -> Callable[[Ground, Request], Proposal]:
    """A restart from elsewhere: what it repeats and skips, looked up when it is asked for."""

    def propose(ground: Ground, request: Request) -> Proposal:
        from headgate.topics.back import plan_restore
        from headgate.topics.begin import plan_origin

        if kind == "snapshot":
            plan = plan_restore(ground.settings, ground.frozen, request.value or None)
        else:
            plan = plan_origin(ground.settings, ground.frozen, kind, timestamp=request.value)
        steps = (
            *_ending(ground.status),
            f"a new driver begins from {plan.origin.told}",
            *(f"table {effect.table}: {effect.text}" for effect in plan.effects),
            *plan.notes,
        )
        repeated, lost = f"{plan.repeats} records are read again", f"{plan.loses} records are skipped"
        proposal = _proposal(ground, steps, repeated, lost, list(plan.problems))
        return replace(proposal, detail={"origin": plan.origin.to_json()})

    return propose


def _order_origin(
    client: SupervisorClient, request: Request, proposal: Proposal, approval: Approval
) -> StreamStatus:
    from headgate.airflow import access
    from headgate.checkpoints.origin import Origin
    from headgate.contract.frozen import ContractStore
    from headgate.topics.begin import adopt_topics

    origin = Origin.from_json(proposal.detail["origin"])
    if origin.offsets:
        settings = access.settings()
        adopt_topics(settings, ContractStore(settings.state).get(proposal.contract_hash))
    return client.restart(
        request.pipeline,
        actor=approval.actor,
        reason=_why(request, approval),
        idempotency_key=approval.key,
        owner=Owner(kind="cli", user=approval.by),
        contract_hash=proposal.contract_hash,
        origin=origin,
    )


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
    Choice(
        "restart from snapshot",
        "go back to a snapshot; what came after it runs again",
        _propose_origin("snapshot"),
        _order_origin,
        value="the snapshot's id; empty: the newest good one",
    ),
    Choice(
        "restart from earliest",
        "a new lineage that reads again all that the topics still hold",
        _propose_origin("earliest"),
        _order_origin,
    ),
    Choice(
        "restart from latest",
        "a new lineage at the end of the topics; what was not read until now is skipped",
        _propose_origin("latest"),
        _order_origin,
    ),
    Choice(
        "restart from timestamp",
        "a new lineage at the first records that arrived at or after a time",
        _propose_origin("timestamp"),
        _order_origin,
        value="the time, such as 2026-01-31T06:00:00Z",
    ),
)

_CUT_OFF = (
    f"nothing, if the running batch commits within {DEADLINE_SECONDS:.0f} s; a batch that is cut off runs "
    "again with the same records, which Delta and Redis recognise"
)


def _proposal(
    ground: Ground, steps: tuple[str, ...], repeated: str, lost: str, refusals: list[str]
) -> Proposal:
    status = ground.status
    return Proposal(
        steps=steps,
        repeated=repeated,
        lost=lost,
        generation=status.generation,
        desired=str(status.desired),
        contract_hash=ground.frozen.hash,
        refusals=tuple(refusals),
    )


def _runs(status: StreamStatus) -> bool:
    return bool(status.driver_alive) or status.phase in (Phase.STARTING, Phase.RUNNING, Phase.STOPPING)


def _ending(status: StreamStatus) -> tuple[str, ...]:
    if not _runs(status):
        return (f"no driver runs: the stream is {status.phase}{_because(status)}",)
    return (f"the running batch commits and the driver ends (past {DEADLINE_SECONDS:.0f} s it is killed)",)


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


def _because(status: StreamStatus) -> str:
    return f" ({status.reason})" if status.reason else ""


def _by(status: StreamStatus) -> str:
    return f" by {status.stopped_by}" if status.stopped_by else ""


def _why(request: Request, approval: Approval) -> str:
    other = request.asked_by not in ("", approval.by)
    asked = f", asked for by {request.asked_by}" if other else ""
    return f"{request.action}, approved by {approval.by}{asked}: {request.reason}"
