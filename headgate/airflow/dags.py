"""DAGs from applied contracts. DAG files call these at every parse, so nothing here reads more than the
small pointer it is given: no network, no database, no Spark, no Great Expectations.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, AssetOrTimeSchedule, DeltaTriggerTimetable

from headgate.airflow.links import runbook_url, status_url
from headgate.airflow.operate import (
    ORDER_TASK,
    PLAN_TASK,
    WATCH_TASK,
    OrderOperator,
    ShowPlanOperator,
    WatchAgainOperator,
    approval_task,
    form,
)
from headgate.airflow.operators import FirstCommitOperator, RunStreamOperator, stream_asset
from headgate.airflow.steps import (
    ApplyOperator,
    PlanOperator,
    PreflightOperator,
    QualityOperator,
    ReconcileOperator,
)
from headgate.contract.frozen import Applied
from headgate.settings import Settings

__all__ = [
    "RECONCILE_DAG",
    "build_operate_dag",
    "build_quality_dag",
    "build_reconcile_dag",
    "build_stream_dag",
    "operate_dag_id",
    "quality_dag_id",
    "stream_dag_id",
]

RECONCILE_DAG = "headgate.reconcile"
# A fixed date: one that moves would make a new version of the DAG at every parse.
_START = datetime(2024, 1, 1, tzinfo=UTC)
_STEP_MINUTES = 15


_RUN_DOC = """Deferred means: the stream runs, and this task watches it.

- **Clear**: stop the driver after its batch, start a new one from the checkpoint.
- **Mark** failed or success: stop the stream after its batch.
- Skipped: somebody stopped it; the log says who and why. Failed: it is parked or was taken over; the log
  has the cause, the choices and the runbook.
"""


def stream_dag_id(pipeline: str) -> str:
    return f"stream.{pipeline}"


def quality_dag_id(pipeline: str) -> str:
    return f"quality.{pipeline}"


def operate_dag_id(pipeline: str) -> str:
    return f"operate.{pipeline}"


def build_stream_dag(applied: Applied, settings: Settings) -> DAG:
    """plan → apply → preflight → run_stream, with first_commit beside it. One run is one life of a stream."""
    pipeline = applied.pipeline
    step: dict[str, Any] = {
        "pipeline": pipeline,
        "owner": applied.owner,
        "execution_timeout": timedelta(minutes=_STEP_MINUTES),
        "retries": 2,
        "retry_delay": timedelta(seconds=15),
    }
    with DAG(
        stream_dag_id(pipeline),
        schedule=None,
        doc_md=_stream_doc(applied, settings),
        **_common(applied, "stream"),
    ) as dag:
        plan = PlanOperator(task_id="plan", **step)
        apply = ApplyOperator(task_id="apply", **step)
        preflight = PreflightOperator(task_id="preflight", **step)
        run = RunStreamOperator(
            task_id="run_stream",
            pipeline=pipeline,
            owner=applied.owner,
            max_active_tis_per_dag=1,
            doc_md=_RUN_DOC,
        )
        first = FirstCommitOperator(task_id="first_commit", pipeline=pipeline, owner=applied.owner)
        plan >> apply >> preflight >> [run, first]
    return dag


def build_quality_dag(applied: Applied, settings: Settings) -> DAG | None:
    """Checks what was committed, every `quality.every` and after a first commit; None without a section."""
    if applied.quality_every is None:
        return None
    schedule = AssetOrTimeSchedule(
        timetable=DeltaTriggerTimetable(timedelta(seconds=applied.quality_every)),
        assets=[stream_asset(applied.pipeline)],
    )
    with DAG(
        quality_dag_id(applied.pipeline),
        schedule=schedule,
        doc_md=_quality_doc(applied, settings),
        **_common(applied, "quality"),
    ) as dag:
        QualityOperator(
            task_id="check",
            pipeline=applied.pipeline,
            owner=applied.owner,
            execution_timeout=timedelta(minutes=_STEP_MINUTES),
        )
    return dag


def build_operate_dag(applied: Applied, settings: Settings) -> DAG:
    """show_plan → approve → order → watch_again: what a person orders, once another look has approved it."""
    named: dict[str, Any] = {"pipeline": applied.pipeline, "owner": applied.owner}
    step: dict[str, Any] = {**named, "execution_timeout": timedelta(minutes=_STEP_MINUTES)}
    common = {**_common(applied, "operate"), "is_paused_upon_creation": False}  # nothing runs by itself
    with DAG(
        operate_dag_id(applied.pipeline),
        schedule=None,
        params=form(),
        doc_md=_operate_doc(applied, settings),
        **common,
    ) as dag:
        plan = ShowPlanOperator(task_id=PLAN_TASK, retries=2, retry_delay=timedelta(seconds=15), **step)
        approve = approval_task(applied.pipeline, settings.airflow.approvers, owner=applied.owner)
        order = OrderOperator(task_id=ORDER_TASK, **step)
        watch = WatchAgainOperator(
            task_id=WATCH_TASK, stream_dag=stream_dag_id(applied.pipeline), owner=applied.owner
        )
        plan >> approve >> order >> watch
    return dag


def build_reconcile_dag(settings: Settings) -> DAG:
    """Once a minute: stop what lost its task, report what nobody owns or watches."""
    with DAG(
        RECONCILE_DAG,
        schedule=DeltaTriggerTimetable(timedelta(minutes=1)),
        start_date=_START,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        dagrun_timeout=timedelta(minutes=5),
        description="Stops streams whose Airflow task is over, reports streams that nobody watches",
        doc_md=_reconcile_doc(settings),
        tags={"headgate"},
    ) as dag:
        ReconcileOperator(task_id="sweep", owner="headgate", execution_timeout=timedelta(minutes=2))
    return dag


def _common(applied: Applied, kind: str) -> dict[str, Any]:
    return {
        "start_date": _START,
        "catchup": False,
        "max_active_runs": 1,
        "dagrun_timeout": None,
        "is_paused_upon_creation": True,
        "description": applied.description,
        "tags": {"headgate", kind, f"owner:{applied.owner}"[:100]},
    }


def _stream_doc(applied: Applied, settings: Settings) -> str:
    return f"""### {applied.pipeline}

{applied.description}

- owner: **{applied.owner}**
- contract: version {applied.version}, `{applied.hash[:12]}`, from `{applied.file}`,
  applied by {applied.applied_by}
- [status page]({status_url(settings, applied.pipeline)})
- runbooks: {_runbooks(settings, "StreamDown", "StreamStalled", "StreamLagGrowing")}

`run_stream` is deferred for as long as the stream lives. **Clear** it to restart the stream from its
checkpoint; **mark** it success or failed to stop the stream. A restart of Airflow touches no stream.
Pausing this DAG stops nothing, and hides the end of the stream until it is unpaused. What could read
records again or lose them goes through `{operate_dag_id(applied.pipeline)}`, which shows its plan
and asks first.
"""


def _operate_doc(applied: Applied, settings: Settings) -> str:
    return f"""### Orders to {applied.pipeline}

{applied.description}

1. **Trigger** this DAG and choose the action. `show_plan` says what it would do, what would be read
   again and what would be lost; nothing has happened yet.
2. **Approve or reject** the plan: the task `approve` waits under *Required Actions*, for an hour.
3. `order` carries it out, once, with the approver's name in the stream's event log. It refuses when the
   stream has changed since the plan.
4. `watch_again` starts `{stream_dag_id(applied.pipeline)}` where no task waits for the stream any more.

- owner: **{applied.owner}**
- [status page]({status_url(settings, applied.pipeline)})
- runbooks: {_runbooks(settings, "StreamParked", "StreamDown")}
"""


def _quality_doc(applied: Applied, settings: Settings) -> str:
    return f"""### Quality of {applied.pipeline}

{applied.description}

- owner: **{applied.owner}**
- every {applied.quality_every:g} s, and after the first commit of the stream
- [status page]({status_url(settings, applied.pipeline)})
- runbook: {_runbooks(settings, "QualityFailed")}

`check` is green when all outputs passed, skipped when there is nothing to check yet, and red when a
critical expectation failed or the check itself broke; its log says which.
"""


def _reconcile_doc(settings: Settings) -> str:
    return f"""### Reconcile

Every minute: a live stream whose Airflow task is over or deleted is stopped, fenced by its owner. A
stream that nobody owns, that failed in the hands of a worker, or whose DAG is paused is reported here
and on the [status page]({status_url(settings)}).
"""


def _runbooks(settings: Settings, *alerts: str) -> str:
    return ", ".join(f"[{alert}]({runbook_url(settings, alert)})" for alert in alerts)
