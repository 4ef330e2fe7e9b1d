"""The stream's tasks: order it and let go of the slot; wait for its first commit.

`execute()` means one thing, whether by first run, clear or retry: a new generation. Then the task is
deferred for as long as the stream lives. Nothing in here owns a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from headgate.airflow import access
from headgate.airflow.decisions import Decision, Outcome, ask_again, decide
from headgate.airflow.links import RunbookLink, SparkUiLink, StatusPageLink
from headgate.airflow.triggers import UI_KEY, FirstCommitTrigger, StreamTrigger
from headgate.checkpoints.layout import RECORDS
from headgate.contract.frozen import ContractStore
from headgate.errors import HeadgateError, NotFoundError, UnavailableError
from headgate.streams.model import Owner, StreamStatus

__all__ = ["WATCH_KEY", "FirstCommitOperator", "RunStreamOperator", "stream_asset"]

# An XCom that says where the task was when it ended. A task that failed while it was `deferred` was
# failed by a person; one that failed in the hands of a worker may have been failed by Airflow.
WATCH_KEY = "watch"
GENERATION_KEY = "generation"
TRIGGER_FAILURES_KEY = "trigger_failures"

ORDER_ATTEMPTS = 5
ORDER_PAUSE_SECONDS = 3.0  # a supervisor that restarts is back within seconds
TRIGGER_FAILURES = 5  # a trigger that cannot run at all must not loop for ever …
TRIGGER_FAILURES_SECONDS = 600.0  # … and one that failed now and then over the years may go on


def stream_asset(pipeline: str) -> Asset:
    """Updated when a run of the stream has committed for the first time."""
    return Asset(name=f"headgate://{pipeline}", uri=f"headgate://{pipeline}", group="headgate")


class RunStreamOperator(BaseOperator):  # type: ignore[misc]
    """Orders one stream from the supervisor and waits, deferred, for as long as it lives.

    :param pipeline: the pipeline whose applied contract is run.
    """

    template_fields = ("pipeline",)
    ui_color = "#cfe8f3"
    operator_extra_links: ClassVar[Any] = (SparkUiLink(), StatusPageLink(), RunbookLink())

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        # Set here and not by the DAG: an organisation's default_args or policies could reach a stream
        # otherwise, and a timeout or a second retry layer would hurt it.
        kwargs.update(retries=0, execution_timeout=None)
        super().__init__(**kwargs)
        self.pipeline = pipeline

    def execute(self, context: Any) -> None:
        owner = access.owner_of(context)
        self._mark(context, "ordering")
        context["ti"].xcom_push(key=UI_KEY, value="")  # the link is there before the driver names its page
        status = self._order(context, owner)
        self.log.info(
            "ordered %s: generation %d, epoch %d, contract %s; it was %s",
            self.pipeline,
            status.generation,
            status.epoch,
            status.contract_hash[:12],
            status.phase,
        )
        context["ti"].xcom_push(key=GENERATION_KEY, value=status.generation)
        self._wait(context, status.generation, owner)

    def resume(self, context: Any, event: Mapping[str, Any]) -> None:
        """The trigger's event: log the cause, end the task or wait again. It holds a slot, so no sleep."""
        self._mark(context, "resuming")
        owner = access.owner_of(context)
        decision = self._now(Decision.from_json(event), owner)
        self._finish(context, decision, owner)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """A trigger that failed is no reason to fail the task: the stream lives, so watch it again."""
        if next_method != "__fail__":
            return super().resume_execution(next_method, next_kwargs, context)
        self._mark(context, "resuming")
        reason = (next_kwargs or {}).get("traceback") or (next_kwargs or {}).get("error") or "no reason given"
        text = reason if isinstance(reason, str) else "".join(map(str, reason))
        self.log.error("the trigger of %s failed; the stream was not touched:\n%s", self.pipeline, text)
        failures = self._count_trigger_failure(context)
        if failures > TRIGGER_FAILURES:
            raise AirflowFailException(
                f"Airflow cannot watch {self.pipeline}: its trigger failed {failures} times in a row. "
                "The stream itself was not touched. Restart the triggerer after an upgrade of headgate, "
                "then clear this task"
            )
        owner = access.owner_of(context)
        generation = context["ti"].xcom_pull(key=GENERATION_KEY, task_ids=self.task_id) or 0
        return self._finish(context, self._now(Decision(Outcome.WATCH, generation), owner), owner)

    def on_kill(self) -> None:
        """Does nothing: SIGTERM reaches a worker at every rollout, and the driver is not the worker's."""

    def _order(self, context: Any, owner: Owner) -> StreamStatus:
        contract_hash = _applied_hash(self.pipeline)
        key = access.order_key(owner, context["ti"].id)

        def order() -> StreamStatus:
            with access.client() as client:
                return client.ensure(
                    self.pipeline,
                    pipeline=self.pipeline,
                    contract_hash=contract_hash,
                    owner=owner,
                    idempotency_key=key,
                )

        try:
            return _patiently(order, self.log.warning)
        except HeadgateError as error:
            raise AirflowFailException(f"{self.pipeline} could not be ordered. {error}") from error

    def _now(self, seen: Decision, owner: Owner) -> Decision:
        """Decide again by what the supervisor says now: an event may have waited while the DAG was paused."""
        try:
            with access.client() as client:
                status = client.status(self.pipeline)
        except NotFoundError as error:
            return seen if seen.ends else replace(seen, outcome=Outcome.LOST, text=str(error))
        except HeadgateError as error:
            self.log.warning("%s; going by what the trigger saw", error)
            return seen
        if trouble := ask_again(status):
            self.log.warning(trouble)
        return decide(status, seen.generation, owner)

    def _finish(self, context: Any, decision: Decision, owner: Owner) -> None:
        if not decision.ends:
            self.log.info("%s goes on, generation %d: waiting again", self.pipeline, decision.generation)
            self._wait(context, decision.generation, owner)
        text = explain(decision, self.pipeline)
        # The exception is shown with a traceback; this is the line for people.
        self.log.warning("%s: %s", decision.outcome, text)
        if decision.outcome in (Outcome.STOPPED, Outcome.RETIRED):
            raise AirflowSkipException(text)
        raise AirflowFailException(text)

    def _wait(self, context: Any, generation: int, owner: Owner) -> None:
        trigger = StreamTrigger(stream=self.pipeline, generation=generation, owner=asdict(owner))
        self._mark(context, "deferred")
        self.defer(trigger=trigger, method_name="resume")

    def _count_trigger_failure(self, context: Any) -> int:
        now = time.time()
        times = context["ti"].xcom_pull(key=TRIGGER_FAILURES_KEY, task_ids=self.task_id) or []
        times = [at for at in times if now - at < TRIGGER_FAILURES_SECONDS] + [now]
        context["ti"].xcom_push(key=TRIGGER_FAILURES_KEY, value=times)
        return len(times)

    def _mark(self, context: Any, where: str) -> None:
        context["ti"].xcom_push(key=WATCH_KEY, value=where)


class FirstCommitOperator(BaseOperator):  # type: ignore[misc]
    """Waits, deferred, until this DAG run's stream has committed; then its asset is updated."""

    def __init__(self, *, pipeline: str, stream_task: str = "run_stream", **kwargs: Any) -> None:
        kwargs.update(retries=0, execution_timeout=None)
        super().__init__(outlets=[stream_asset(pipeline)], **kwargs)
        self.pipeline = pipeline
        self.stream_task = stream_task

    def execute(self, context: Any) -> None:
        owner = replace(access.owner_of(context), task_id=self.stream_task)
        frozen = ContractStore(access.settings().state).current(self.pipeline)
        queries = [RECORDS, *frozen.stateful_outputs]
        trigger = FirstCommitTrigger(stream=self.pipeline, owner=asdict(owner), queries=queries)
        self.defer(trigger=trigger, method_name="resume")

    def resume(self, context: Any, event: Mapping[str, Any]) -> dict[str, Any]:
        if not event.get("committed"):
            raise AirflowSkipException(
                f"{self.stream_task} ended ({event.get('state')}) before {self.pipeline} committed anything"
            )
        progress: dict[str, Any] = dict(event.get("progress") or {})
        context["outlet_events"][stream_asset(self.pipeline)].extra = {
            "generation": progress.get("generation"),
            "epoch": progress.get("epoch"),
        }
        self.log.info("%s has committed: %s", self.pipeline, progress.get("queries"))
        return progress


def explain(decision: Decision, pipeline: str) -> str:
    """The end of the wait for people: the cause, the choices, the commands."""
    lines = [decision.text]
    if decision.outcome is Outcome.PARKED:
        lines += [
            "Parked means: no automatic action follows. The choices:",
            f"  headgate events {pipeline}    what happened, in order",
            f"  headgate logs {pipeline}      the driver's own log",
            f"  headgate restart {pipeline}   once the cause is gone: continue from the checkpoint",
            "  or clear this task, which does the same and watches it again",
        ]
    elif decision.outcome is Outcome.SUPERSEDED:
        lines.append(f"To take it back: clear this task, or headgate status {pipeline} to see who has it")
    elif decision.outcome in (Outcome.EXITED, Outcome.LOST):
        lines.append(f"See headgate events {pipeline}; clear this task to start it from its checkpoint")
    else:
        lines.append(f"To go on: clear this task, or headgate start {pipeline}")
    if decision.runbook:
        lines.append(f"Runbook: docs/runbooks/{decision.runbook}.md")
    return "\n".join(lines)


def _applied_hash(pipeline: str) -> str:
    applied = ContractStore(access.settings().state).applied().get(pipeline)
    if applied is None:
        raise AirflowFailException(
            f"no contract of {pipeline} is applied any more; see headgate plan, then headgate apply"
        )
    return applied.hash


def _patiently(order: Callable[[], StreamStatus], say: Callable[..., None]) -> StreamStatus:
    """The idempotency key makes asking twice harmless, also when the first answer was lost."""
    for attempt in range(1, ORDER_ATTEMPTS):
        try:
            return order()
        except UnavailableError as error:
            say("attempt %d of %d: %s", attempt, ORDER_ATTEMPTS, error)
            time.sleep(ORDER_PAUSE_SECONDS)
    return order()
