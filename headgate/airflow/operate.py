"""The tasks of `operate.<pipeline>`: show the plan, let a person approve it, give the order, watch again.

Nothing is ordered that was not shown, and nothing that has changed since it was shown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator, Param
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    DagRunTriggerException,
    DownstreamTasksSkipped,
)

from headgate.airflow import access
from headgate.airflow.links import RunbookLink, StatusPageLink
from headgate.airflow.operations import (
    CHOICES,
    Approval,
    Choice,
    Ground,
    Proposal,
    Request,
    choice,
    fence,
    unwatched,
)
from headgate.airflow.proposals import SETTLE_SECONDS
from headgate.contract.frozen import ContractStore
from headgate.errors import HeadgateError, UnavailableError
from headgate.streams.model import Desired, Phase, StreamStatus

if TYPE_CHECKING:
    from headgate.streams.client import SupervisorClient

__all__ = ["OrderOperator", "ShowPlanOperator", "WatchAgainOperator", "approval_task", "form"]

PLAN_TASK, APPROVE_TASK, ORDER_TASK, WATCH_TASK = "show_plan", "approve", "order", "watch_again"
BODY_KEY = "body"
# A plan is what it saw: after an hour nobody remembers it, and an open question blocks the next one.
ANSWER_WITHIN = timedelta(hours=1)
POLL_SECONDS = 2.0


def form(choices: Sequence[Choice] = CHOICES) -> dict[str, Param]:
    """The fields of the trigger form, no more than the choices need."""
    helps = "\n".join(f"- **{each.name}**: {each.help}" for each in choices)
    fields = {
        "action": Param(
            choices[0].name,
            type="string",
            enum=[each.name for each in choices],
            title="Action",
            description_md=f"Its plan is shown before anything is done.\n\n{helps}",
        ),
        "reason": Param(
            "",
            type="string",
            minLength=3,
            maxLength=500,
            title="Reason",
            description="Goes into the stream's event log beside who approved it.",
        ),
    }
    values = [f"- **{each.name}**: {each.value}" for each in choices if each.value]
    if values:
        fields["value"] = Param(
            "",
            type="string",
            maxLength=500,
            title="Value",
            description_md="Only for these actions:\n\n" + "\n".join(values),
        )
    return fields


class ShowPlanOperator(BaseOperator):  # type: ignore[misc]
    """Says what the action would do, repeat and lose; refuses what the supervisor would refuse.

    :param pipeline: the pipeline whose stream the action is about.
    """

    operator_extra_links: ClassVar[Any] = (StatusPageLink(), RunbookLink())

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline

    def execute(self, context: Any) -> dict[str, Any]:
        request = _request(context, self.pipeline)
        access.quiet_kafka()
        settings = access.settings()
        try:
            frozen = ContractStore(settings.state).current(self.pipeline)
            with access.client() as client:
                status = client.status(self.pipeline)
            proposal = choice(request.action).propose(Ground(settings, frozen, status), request)
        except UnavailableError:
            raise  # Airflow's retries are for this one: nothing was changed, and it may be back soon
        except HeadgateError as error:
            raise AirflowFailException(f"there is no plan for {self.pipeline}. {error}") from error
        body = describe(request, status, proposal)
        self.log.info("%s", body)
        if proposal.refusals:
            told = "\n".join(f"! {each}" for each in proposal.refusals)
            raise AirflowFailException(f"{request.action} of {self.pipeline} is refused:\n{told}")
        context["ti"].xcom_push(key=BODY_KEY, value=body)
        return proposal.to_json()


def approval_task(pipeline: str, approvers: Sequence[str], **kwargs: Any) -> ApprovalOperator:
    """The question to a person. Rejected, or unanswered for an hour, nothing happens."""
    return ApprovalOperator(
        task_id=APPROVE_TASK,
        subject=f"{{{{ params.action }}}}: {pipeline}?",
        body=f"{{{{ ti.xcom_pull(task_ids='{PLAN_TASK}', key='{BODY_KEY}') }}}}",
        defaults=ApprovalOperator.REJECT,
        response_timeout=ANSWER_WITHIN,
        assigned_users=[{"id": name, "name": name} for name in approvers] or None,
        retries=0,
        **kwargs,
    )


class OrderOperator(BaseOperator):  # type: ignore[misc]
    """Gives the approved order, once per run, and waits until the stream is as ordered.

    :param pipeline: the pipeline whose stream is ordered.
    """

    operator_extra_links: ClassVar[Any] = (StatusPageLink(), RunbookLink())

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        kwargs.update(retries=0)
        super().__init__(**kwargs)
        self.pipeline = pipeline

    def execute(self, context: Any) -> dict[str, Any]:
        ti = context["ti"]
        request = _request(context, self.pipeline)
        proposal = Proposal.from_json(ti.xcom_pull(task_ids=PLAN_TASK))
        approval = Approval(_approver(ti.xcom_pull(task_ids=APPROVE_TASK)), ti.dag_id, ti.run_id)
        try:
            with access.client() as client:
                before = client.status(self.pipeline)
                fence(proposal, before)
                ordered = choice(request.action).order(client, request, proposal, approval)
                self.log.info("ordered by %s: generation %d", approval.actor, ordered.generation)
                status = settle(client, ordered, choice(request.action).seconds)
        except HeadgateError as error:
            raise AirflowFailException(f"{request.action} was not carried out. {error}") from error
        self.log.info("%s is %s, generation %d", self.pipeline, status.phase, status.generation)
        if (other := _other_end(status, ordered)) is not None:
            raise AirflowFailException(f"{self.pipeline} {other}")
        if status.phase is Phase.RETIRED:
            # Its DAGs go within a minute, this one too: what follows is skipped while it is there.
            raise DownstreamTasksSkipped(tasks=[WATCH_TASK])
        watch = status.desired is Desired.RUNNING and unwatched(before)
        return {"generation": status.generation, "phase": str(status.phase), "watch": watch}


class WatchAgainOperator(BaseOperator):  # type: ignore[misc]
    """Starts the stream's DAG where no task of Airflow waits for the stream any more.

    :param stream_dag: the DAG whose task watches the stream.
    """

    def __init__(self, *, stream_dag: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stream_dag = stream_dag

    def execute(self, context: Any) -> None:
        ti = context["ti"]
        done = ti.xcom_pull(task_ids=ORDER_TASK)
        if not done["watch"]:
            text = f"nothing to watch anew: the stream is {done['phase']}, and its task knows of it"
            self.log.info("%s", text)
            raise AirflowSkipException(text)
        if ti.get_dag(self.stream_dag).is_paused:
            raise AirflowFailException(
                f"the stream runs and Airflow does not watch it: {self.stream_dag} is paused. "
                f"Unpause it, then clear this task"
            )
        raise DagRunTriggerException(
            trigger_dag_id=self.stream_dag,
            dag_run_id=f"after__{ti.run_id}",
            conf={},
            reset_dag_run=False,
            skip_when_already_exists=True,
            wait_for_completion=False,
            allowed_states=["success"],
            failed_states=["failed"],
            poke_interval=60,
            deferrable=False,
        )


def describe(request: Request, status: StreamStatus, proposal: Proposal) -> str:
    """The plan in Markdown: for the log and for the person who is asked."""
    holder = status.owner.label if status.owner else "nobody"
    return "\n".join(
        [
            f"**{request.action}** of **{request.pipeline}**",
            "",
            f"- reason: {request.reason}{f' (asked for by {request.asked_by})' if request.asked_by else ''}",
            f"- now: {status.phase}, generation {status.generation}, epoch {status.epoch}, held by {holder}",
            *(f"- then: {step}" for step in proposal.steps),
            f"- read again: **{proposal.repeated}**",
            f"- lost: **{proposal.lost}**",
        ]
    )


def settle(client: SupervisorClient, ordered: StreamStatus, seconds: float = SETTLE_SECONDS) -> StreamStatus:
    """The stream once it is as ordered, parked, or ordered anew. Raises UnavailableError at the deadline."""
    until = time.monotonic() + seconds
    status = ordered
    while not _settled(status, ordered):
        if time.monotonic() >= until:
            raise UnavailableError(
                f"{ordered.stream} was ordered, and after {seconds:.0f} s it is still {status.phase}: "
                f"{status.reason or 'no reason given'}",
                help=f"headgate events {ordered.stream}",
            )
        time.sleep(POLL_SECONDS)
        status = client.status(ordered.stream)
    return status


def _settled(status: StreamStatus, ordered: StreamStatus) -> bool:
    if _is_end(ordered):
        return _ended(status, ordered)
    if (status.generation, status.desired) != (ordered.generation, ordered.desired):
        return True
    return status.phase is Phase.PARKED or status.runs(ordered.generation)


def _ended(status: StreamStatus, ordered: StreamStatus) -> bool:
    """Ended as ordered; or not to be waited for: parked or given up in the drain, or another order came."""
    if status.desired is not Desired.RUNNING:
        return status.phase in _ends(ordered)
    if status.generation != ordered.generation or status.phase is Phase.PARKED:
        return True
    return status.draining is None or bool(status.draining["given_up"])


def _other_end(status: StreamStatus, ordered: StreamStatus) -> str | None:
    """What became of the order instead, where the stream is not as it was ordered; None where it is."""
    events = f"headgate events {ordered.stream}"
    if status.phase is Phase.PARKED:
        return f"is parked: {status.reason}\nNext: {events}. Runbook: docs/runbooks/StreamParked.md"
    if _is_end(ordered) and status.draining is not None and status.generation == ordered.generation:
        return f"was not drained, and runs on: {status.draining['given_up']}"
    if not _is_end(ordered) or status.phase in _ends(ordered):
        return None
    holder = status.owner.label if status.owner else "nobody"
    return (
        f"did not end: the order was replaced by generation {status.generation}, held by {holder}, and the "
        f"stream is {status.phase}.\nNext: {events}"
    )


def _is_end(ordered: StreamStatus) -> bool:
    """Whether the order was to end the stream, at once or once it is drained."""
    return ordered.desired is not Desired.RUNNING or ordered.draining is not None


def _ends(ordered: StreamStatus) -> tuple[Phase, ...]:
    return (Phase.RETIRED,) if ordered.desired is Desired.RETIRED else (Phase.STOPPED, Phase.RETIRED)


def _request(context: Any, pipeline: str) -> Request:
    params = context["params"]
    return Request(
        pipeline=pipeline,
        action=params["action"],
        reason=params["reason"],
        value=params.get("value", ""),
        asked_by=getattr(context["dag_run"], "triggering_user_name", None) or "",
    )


def _approver(answer: Mapping[str, Any] | None) -> str:
    """Whose yes it was. Raises AirflowFailException: an order without a name is none."""
    user = (answer or {}).get("responded_by_user") or {}
    name = user.get("name") or user.get("id")
    if not name or (answer or {}).get("chosen_options") != [ApprovalOperator.APPROVE]:
        raise AirflowFailException("nobody has approved this plan: trigger this DAG again")
    return str(name)
