"""What is proposed, approved and ordered from Airflow: the values that travel between its tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from headgate.contract.frozen import FrozenContract
from headgate.errors import RefusedError
from headgate.settings import Settings
from headgate.streams.model import Desired, Phase, StreamStatus

if TYPE_CHECKING:
    from headgate.streams.client import SupervisorClient

__all__ = [
    "CUT_OFF",
    "DEADLINE_SECONDS",
    "SETTLE_SECONDS",
    "Approval",
    "Choice",
    "Ground",
    "Proposal",
    "Request",
    "ending",
    "fence",
    "proposal_of",
    "runs",
    "unwatched",
    "why",
]

SETTLE_SECONDS = 300.0
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
    """One thing that can be ordered. `value` says what the form's second field means, or is empty;
    `seconds` is how long the stream may take until it is as ordered."""

    name: str
    help: str
    propose: Callable[[Ground, Request], Proposal]
    order: Callable[[SupervisorClient, Request, Proposal, Approval], StreamStatus]
    value: str = ""
    seconds: float = SETTLE_SECONDS


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


CUT_OFF = (
    f"nothing, if the running batch commits within {DEADLINE_SECONDS:.0f} s; a batch that is cut off runs "
    "again with the same records, which Delta and Redis recognise"
)


def proposal_of(
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


def runs(status: StreamStatus) -> bool:
    return bool(status.driver_alive) or status.phase in (Phase.STARTING, Phase.RUNNING, Phase.STOPPING)


def ending(status: StreamStatus) -> tuple[str, ...]:
    if not runs(status):
        return (f"no driver runs: the stream is {status.phase}{_because(status)}",)
    return (f"the running batch commits and the driver ends (past {DEADLINE_SECONDS:.0f} s it is killed)",)


def _because(status: StreamStatus) -> str:
    return f" ({status.reason})" if status.reason else ""


def why(request: Request, approval: Approval) -> str:
    other = request.asked_by not in ("", approval.by)
    asked = f", asked for by {request.asked_by}" if other else ""
    return f"{request.action}, approved by {approval.by}{asked}: {request.reason}"
