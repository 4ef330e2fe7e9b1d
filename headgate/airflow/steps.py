"""The bounded tasks: plan, apply, preflight, the quality check and the sweep.

Each calls one function of headgate, which is imported when the task runs, and turns what it says into
a readable log and a task state. A refusal fails the task with its reasons and the next command.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from headgate.airflow import access, reconcile
from headgate.airflow.operators import WATCH_KEY
from headgate.airflow.stopping import GONE
from headgate.contract.frozen import ContractStore, FrozenContract
from headgate.errors import HeadgateError, UnavailableError
from headgate.settings import Settings
from headgate.streams.model import Owner

if TYPE_CHECKING:
    from headgate.quality.verdict import Verdict
    from headgate.topics.plan import Plan

__all__ = ["ApplyOperator", "PlanOperator", "PreflightOperator", "QualityOperator", "ReconcileOperator"]


class _PipelineStep(BaseOperator):  # type: ignore[misc]
    """:param pipeline: the pipeline whose applied contract the step is about."""

    template_fields = ("pipeline",)

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline

    def execute(self, context: Any) -> Any:  # noqa: ARG002 -- Airflow's signature
        access.quiet_kafka()
        settings = access.settings()
        try:
            return self.step(settings, ContractStore(settings.state).current(self.pipeline))
        except UnavailableError:
            raise  # Airflow's retries are for this one: nothing was changed, and it may be back soon
        except HeadgateError as error:
            raise AirflowFailException(f"{self.task_id} of {self.pipeline} failed. {error}") from error

    @abstractmethod
    def step(self, settings: Settings, frozen: FrozenContract) -> Any:
        """What the task does; its answer is the task's XCom."""

    def _plan(self, settings: Settings, frozen: FrozenContract) -> Plan:
        from headgate.topics.plan import make_plan

        pointer = ContractStore(settings.state).applied()[self.pipeline]
        plan = make_plan(settings, [frozen], files={self.pipeline: pointer.file})
        for action in plan.actions:
            self.log.info("%s %s: %s (%s)", action.symbol, action.address, action.summary, action.reason)
        for note in plan.notes:
            self.log.info("· %s: %s", note.address, note.message)
        if plan.refusals:
            told = [f"! {each.address}: {each.message}\n    {each.help}" for each in plan.refusals]
            raise AirflowFailException(_refused(f"the plan of {self.pipeline} is refused", told, "plan"))
        return plan


class PlanOperator(_PipelineStep):
    """Shows how the live topics and tables differ from the applied contract; changes nothing."""

    def step(self, settings: Settings, frozen: FrozenContract) -> int:
        count = len(self._plan(settings, frozen).actions)
        self.log.info("%s: %s", self.pipeline, f"{count} changes" if count else "nothing to change")
        return count


class ApplyOperator(_PipelineStep):
    """Carries out the plan: made again here, because the live system may have changed since."""

    def step(self, settings: Settings, frozen: FrozenContract) -> int:
        from headgate.topics.apply import apply_plan

        plan = self._plan(settings, frozen)
        done = apply_plan(settings, plan, by=f"airflow:{self.dag_id}").done
        self.log.info("%s: %s", self.pipeline, f"{len(done)} changes applied" if done else "nothing to apply")
        return len(done)


class PreflightOperator(_PipelineStep):
    """Looks at the checkpoint and the topic before a start; nothing starts what it refuses."""

    def step(self, settings: Settings, frozen: FrozenContract) -> None:
        from headgate.checkpoints.preflight import preflight

        findings = preflight(settings, frozen)
        refusals = [finding for finding in findings if finding.severity == "refuse"]
        for finding in findings:
            if finding.severity == "warn":
                self.log.warning("~ %s", finding)
            elif finding not in refusals:
                self.log.info("· %s", finding)
        if refusals:
            told = [f"! {finding}" for finding in refusals]
            raise AirflowFailException(_refused(f"{self.pipeline} must not start", told, "restart"))
        self.log.info("%s may start: its checkpoint and its topics fit", self.pipeline)


class QualityOperator(_PipelineStep):
    """Runs the contract's expectations on what was committed, and stores the verdicts."""

    def step(self, settings: Settings, frozen: FrozenContract) -> dict[str, str]:  # noqa: ARG002
        from headgate.quality.check import run_check

        verdicts = run_check(settings, self.pipeline)
        for verdict in verdicts:
            _tell(self.log.info, verdict)
        judge(self.pipeline, verdicts)
        return {verdict.output: verdict.status for verdict in verdicts}


class ReconcileOperator(BaseOperator):  # type: ignore[misc]
    """One sweep: see `headgate.airflow.reconcile`."""

    def execute(self, context: Any) -> None:
        try:
            with access.client() as client:
                streams = client.streams()
                owners = reconcile.airflow_owners(streams)
                tasks = {owner: self._task(context, owner) for owner in owners}
                paused = {name: self._paused(context, name) for name in sorted({o.dag_id for o in owners})}
                actions = reconcile.plan_reconcile(streams, tasks, paused)
                reconcile.carry_out(actions, client, self.log.warning)
        except HeadgateError as error:
            raise AirflowFailException(f"the sweep was not finished. {error}") from error
        reconcile.write_heartbeat(access.settings().state, len(streams), actions)
        self.log.info("%d streams looked at, %d found", len(streams), len(actions))

    def _task(self, context: Any, owner: Owner) -> reconcile.TaskView:
        """What Airflow says; an answer without the task instance is not a failed call."""
        ti = context["ti"]
        try:
            found = ti.get_task_states(dag_id=owner.dag_id, task_ids=[owner.task_id], run_ids=[owner.run_id])
            state = found.get(owner.run_id, {}).get(owner.task_id, GONE)
            watch = None
            if state == "failed":
                watch = ti.xcom_pull(
                    dag_id=owner.dag_id, run_id=owner.run_id, task_ids=owner.task_id, key=WATCH_KEY
                )
        except Exception as error:  # noqa: BLE001 -- "could not be asked" must never read as "gone"
            self.log.warning("Airflow could not be asked about %s: %s", owner.label, error)
            return reconcile.TaskView(known=False)
        return reconcile.TaskView(state, watch)

    def _paused(self, context: Any, dag_id: str) -> bool:
        try:
            return bool(context["ti"].get_dag(dag_id).is_paused)
        except Exception as error:  # noqa: BLE001 -- a DAG that is gone is not paused; streams are judged by task
            self.log.warning("Airflow could not be asked about the DAG %s: %s", dag_id, error)
            return False


def judge(pipeline: str, verdicts: Sequence[Verdict]) -> None:
    """Green, skipped or red. Raises the Airflow exception that stands for skipped or red."""
    broke = [verdict for verdict in verdicts if verdict.status == "errored"]
    failed = [verdict for verdict in verdicts if verdict.status == "failed"]
    critical = [verdict for verdict in failed if verdict.severity == "critical"]
    if critical:
        raise AirflowFailException(
            f"{pipeline} failed its quality check: {_outputs(critical)}\n"
            f"What is served is held back until a check passes. See headgate check {pipeline}\n"
            "Runbook: docs/runbooks/QualityFailed.md"
        )
    if broke:
        raise AirflowFailException(
            f"the check of {pipeline} itself broke, which says nothing about the data: {_outputs(broke)}\n"
            f"Next: headgate --debug check {pipeline}"
        )
    if verdicts and all(verdict.status == "no_data" for verdict in verdicts):
        raise AirflowSkipException(f"{pipeline} has committed no data to check yet")


def _tell(say: Any, verdict: Verdict) -> None:
    say("%s: %s, %d rows checked", verdict.output, verdict.status, verdict.rows_checked)
    for each in verdict.expectations:
        if not each.success:
            where = f"{each.name}({each.column})" if each.column else each.name
            say("  %s %s: %s", each.severity, where, each.detail)


def _outputs(verdicts: Iterable[Verdict]) -> str:
    return ", ".join(
        f"{verdict.output} ({'; '.join(_problems(verdict)) or verdict.status})" for verdict in verdicts
    )


def _problems(verdict: Verdict) -> list[str]:
    told = [f"{each.name} {each.detail}".strip() for each in verdict.expectations if not each.success]
    return [verdict.detail, *told] if verdict.detail else told


def _refused(what: str, told: Sequence[str], command: str) -> str:
    next_step = f"Next: headgate {command} --help shows the choices; then clear this task"
    return "\n".join([f"{what}:", *told, next_step])
