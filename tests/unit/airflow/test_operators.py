from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from headgate.airflow import access, operators
from headgate.airflow.decisions import Decision, Outcome
from headgate.airflow.operators import FirstCommitOperator, RunStreamOperator, stream_asset
from headgate.airflow.triggers import FirstCommitTrigger, StreamTrigger
from headgate.contract.frozen import Applied
from headgate.errors import HeadgateError, NotFoundError, RefusedError, SupervisorUnavailable
from headgate.streams.model import Desired, Owner, Phase, StreamStatus

OWNER = Owner(
    "airflow", dag_id="stream.logs", run_id="r1", task_id="run_stream", try_number=2, clear_number=1
)
RUNNING = StreamStatus(
    stream="logs",
    pipeline="logs",
    phase=Phase.STARTING,
    desired=Desired.RUNNING,
    generation=4,
    epoch=7,
    contract_hash="ab" * 32,
    owner=OWNER,
)
APPLIED = Applied("logs", "ab" * 32, 1, 1.0, "ann", "team", "", "logs.yaml", 300.0)


class TaskInstance(SimpleNamespace):
    """The parts of Airflow's task instance that an operator uses."""

    def __init__(self, task_id: str = "run_stream") -> None:
        super().__init__(dag_id="stream.logs", run_id="r1", task_id=task_id, try_number=2, id="uuid-1")
        self.pushed: list[tuple[str, Any]] = []

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed.append((key, value))

    def xcom_pull(self, key: str, task_ids: str) -> Any:
        assert task_ids == self.task_id
        return dict(self.pushed).get(key)


class Supervisor:
    """Answers one status or raises one error at each call, and keeps what was ordered."""

    def __init__(self, *answers: StreamStatus | Exception) -> None:
        self.answers = list(answers)
        self.orders: list[dict[str, Any]] = []

    def _answer(self) -> StreamStatus:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ensure(self, stream: str, **order: Any) -> StreamStatus:
        self.orders.append({"stream": stream, **order})
        return self._answer()

    def status(self, stream: str) -> StreamStatus:
        return self._answer()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


Use = Callable[..., Supervisor]


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Use:
    def use(*answers: StreamStatus | Exception, applied: bool = True) -> Supervisor:
        found = Supervisor(*answers)
        monkeypatch.setattr(access, "client", lambda: found)
        monkeypatch.setattr(access, "settings", lambda: SimpleNamespace(state=tmp_path))
        store = SimpleNamespace(
            applied=lambda: {"logs": APPLIED} if applied else {},
            current=lambda pipeline: SimpleNamespace(stateful_outputs=["levels"]),
        )
        monkeypatch.setattr(operators, "ContractStore", lambda state: store)
        monkeypatch.setattr(operators, "ORDER_PAUSE_SECONDS", 0.0)
        return found

    return use


def context(ti: TaskInstance | None = None) -> dict[str, Any]:
    return {"ti": ti or TaskInstance(), "dag_run": SimpleNamespace(clear_number=1)}


def run_stream() -> RunStreamOperator:
    return RunStreamOperator(task_id="run_stream", pipeline="logs")


def resume(decision: Decision, ti: TaskInstance | None = None) -> Any:
    return run_stream().resume(context(ti), decision.to_json())


def test_execute_orders_a_generation_and_defers(supervisor: Use) -> None:
    found = supervisor(RUNNING)
    ti = TaskInstance()
    with pytest.raises(TaskDeferred) as deferred:
        run_stream().execute(context(ti))
    trigger = deferred.value.trigger
    assert isinstance(trigger, StreamTrigger)
    assert (trigger.stream, trigger.generation, trigger.owner) == ("logs", 4, OWNER)
    assert deferred.value.method_name == "resume"
    assert deferred.value.timeout is None
    (order,) = found.orders
    assert order["owner"] == OWNER
    assert order["contract_hash"] == APPLIED.hash
    assert order["idempotency_key"] == access.order_key(OWNER, "uuid-1")


def test_each_attempt_has_a_key_of_its_own_that_the_supervisor_takes() -> None:
    long = replace(OWNER, run_id="r" * 250)
    keys = [
        access.order_key(long, "uuid-1"),
        access.order_key(long, "uuid-2"),
        access.order_key(replace(long, try_number=3), "uuid-1"),
        access.order_key(replace(long, clear_number=2), "uuid-1"),
    ]
    assert len(set(keys)) == 4
    assert max(map(len, keys)) <= 250


def test_the_task_says_where_it_is_so_that_the_sweep_can_tell_who_failed_it(supervisor: Use) -> None:
    supervisor(RUNNING)
    ti = TaskInstance()
    with pytest.raises(TaskDeferred):
        run_stream().execute(context(ti))
    assert [value for key, value in ti.pushed if key == "watch"] == ["ordering", "deferred"]


def test_the_order_is_repeated_with_the_same_key_while_the_supervisor_restarts(supervisor: Use) -> None:
    found = supervisor(SupervisorUnavailable("no answer"), SupervisorUnavailable("no answer"), RUNNING)
    with pytest.raises(TaskDeferred):
        run_stream().execute(context())
    assert len({order["idempotency_key"] for order in found.orders}) == 1
    assert len(found.orders) == 3


@pytest.mark.parametrize("error", [SupervisorUnavailable("nobody answers"), RefusedError("not with me")])
def test_an_order_that_is_not_taken_fails_the_task_with_the_reason(
    supervisor: Use, error: HeadgateError
) -> None:
    supervisor(error)
    with pytest.raises(AirflowFailException, match=error.message):
        run_stream().execute(context())


def test_a_pipeline_without_an_applied_contract_is_not_ordered(supervisor: Use) -> None:
    found = supervisor(RUNNING, applied=False)
    with pytest.raises(AirflowFailException, match="headgate apply"):
        run_stream().execute(context())
    assert found.orders == []


def test_nothing_from_outside_gives_the_stream_retries_or_a_timeout() -> None:
    operator = RunStreamOperator(task_id="run_stream", pipeline="logs", retries=3, execution_timeout=60)
    assert operator.retries == 0
    assert operator.execution_timeout is None


def test_a_terminated_worker_stops_no_stream(supervisor: Use) -> None:
    found = supervisor(RefusedError("must not be asked"))
    run_stream().on_kill()
    assert found.orders == []


def test_a_parked_stream_fails_the_task_with_cause_choices_and_runbook(supervisor: Use) -> None:
    supervisor(replace(RUNNING, phase=Phase.PARKED, reason="the topic was recreated"))
    with pytest.raises(AirflowFailException) as failed:
        resume(Decision(Outcome.PARKED, 4, "older text"))
    text = str(failed.value)
    assert "the topic was recreated" in text
    assert "headgate restart logs" in text
    assert "docs/runbooks/StreamDown.md" in text


def test_a_stop_by_the_command_line_skips_the_task_with_who_and_why(supervisor: Use) -> None:
    supervisor(
        replace(
            RUNNING,
            phase=Phase.STOPPED,
            desired=Desired.STOPPED,
            stopped_by="cli:ann: disk change",
        )
    )
    with pytest.raises(AirflowSkipException, match="cli:ann: disk change"):
        resume(Decision(Outcome.STOPPED, 4))


def test_another_owners_order_fails_the_task_with_who(supervisor: Use) -> None:
    supervisor(replace(RUNNING, owner=Owner("cli", user="ann"), generation=5))
    with pytest.raises(AirflowFailException, match="cli:ann"):
        resume(Decision(Outcome.SUPERSEDED, 4))


def test_an_end_that_nobody_asked_for_fails_the_task(supervisor: Use) -> None:
    supervisor(replace(RUNNING, phase=Phase.STOPPED, desired=Desired.STOPPED))
    with pytest.raises(AirflowFailException, match="nobody asked"):
        resume(Decision(Outcome.EXITED, 4))


def test_an_event_that_is_out_of_date_defers_again(supervisor: Use) -> None:
    """While a DAG is paused an event waits, and the stream may have been restarted meanwhile."""
    supervisor(replace(RUNNING, generation=6))
    ti = TaskInstance()
    with pytest.raises(TaskDeferred) as deferred:
        resume(Decision(Outcome.PARKED, 4, "it was parked"), ti)
    assert deferred.value.trigger.generation == 6
    assert [value for key, value in ti.pushed if key == "watch"] == ["resuming", "deferred"]


def test_without_the_supervisor_the_event_counts(supervisor: Use) -> None:
    supervisor(SupervisorUnavailable("no answer"))
    with pytest.raises(AirflowFailException, match="as the trigger saw it"):
        resume(Decision(Outcome.PARKED, 4, "as the trigger saw it"))


def test_a_stream_that_the_supervisor_lost_fails_the_task(supervisor: Use) -> None:
    supervisor(NotFoundError("no stream logs"))
    with pytest.raises(AirflowFailException, match="its store is new"):
        resume(Decision(Outcome.LOST, 4, "its store is new"))


def test_a_failed_trigger_is_replaced_while_the_stream_lives(supervisor: Use) -> None:
    supervisor(RUNNING)
    ti = TaskInstance()
    ti.xcom_push("generation", 4)
    with pytest.raises(TaskDeferred) as deferred:
        run_stream().resume_execution("__fail__", {"error": "Trigger failure"}, context(ti))
    assert deferred.value.trigger.generation == 4


def test_a_trigger_that_never_works_fails_the_task_without_touching_the_stream(supervisor: Use) -> None:
    found = supervisor(RUNNING)
    ti = TaskInstance()
    for _ in range(operators.TRIGGER_FAILURES):
        with pytest.raises(TaskDeferred):
            run_stream().resume_execution("__fail__", {"traceback": ["boom\n"]}, context(ti))
    with pytest.raises(AirflowFailException, match="was not touched"):
        run_stream().resume_execution("__fail__", {"traceback": ["boom\n"]}, context(ti))
    assert found.orders == []


def test_other_methods_resume_as_airflow_asks(supervisor: Use) -> None:
    supervisor(RUNNING)
    event = Decision(Outcome.PARKED, 4).to_json()
    with pytest.raises(TaskDeferred):
        run_stream().resume_execution("resume", {"event": event}, context())


def test_the_first_commit_is_waited_for_on_behalf_of_the_stream_task(supervisor: Use) -> None:
    supervisor(RUNNING)
    operator = FirstCommitOperator(task_id="first_commit", pipeline="logs")
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context(TaskInstance("first_commit")))
    trigger = deferred.value.trigger
    assert isinstance(trigger, FirstCommitTrigger)
    assert trigger.owner.task_id == "run_stream"
    assert trigger.queries == ["records", "levels"]


def test_the_first_commit_updates_the_asset_that_schedules_the_check() -> None:
    operator = FirstCommitOperator(task_id="first_commit", pipeline="logs")
    assert operator.outlets == [stream_asset("logs")]
    event = SimpleNamespace(extra=None)
    told = {**context(TaskInstance("first_commit")), "outlet_events": {stream_asset("logs"): event}}
    operator.resume(told, {"committed": True, "progress": {"generation": 4, "epoch": 7, "queries": {}}})
    assert event.extra == {"generation": 4, "epoch": 7}


def test_a_stream_that_ends_before_its_first_commit_updates_nothing() -> None:
    operator = FirstCommitOperator(task_id="first_commit", pipeline="logs")
    with pytest.raises(AirflowSkipException, match="before logs committed"):
        operator.resume(context(TaskInstance("first_commit")), {"committed": False, "state": "failed"})
