from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from headgate.airflow import access, steps
from headgate.airflow.reconcile import HEARTBEAT_FILE
from headgate.airflow.steps import (
    ApplyOperator,
    PlanOperator,
    PreflightOperator,
    QualityOperator,
    ReconcileOperator,
)
from headgate.contract.frozen import Applied
from headgate.errors import KafkaUnavailable, PlanChangedError, SupervisorUnavailable
from headgate.quality.verdict import ExpectationResult, Verdict
from headgate.streams.model import Desired, Owner, Phase, StreamStatus
from headgate.topics.differences import Action, Note, Refusal

APPLIED = Applied("logs", "ab" * 32, 1, 1.0, "ann", "team", "", "logs.yaml", 300.0)
ACTION = Action("create_topic", "topic logs", "logs", "4 partitions", "it is not there")
REFUSAL = Refusal("partitions", "topic logs", "logs", "4 partitions became 2", "keep 4")
NOTE = Note("drift", "topic logs", "logs", "retention was changed by hand")
PASSED = Verdict("logs", "levels", "passed", "", 1.0, (), 10, 1.0, "ab")

Replace = Callable[[str, Any], None]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Replace:
    """`answer("module:function", value)`: the function that a step calls gives this value or error."""
    frozen = SimpleNamespace(pipeline="logs", hash=APPLIED.hash)
    store = SimpleNamespace(current=lambda pipeline: frozen, applied=lambda: {"logs": APPLIED})
    monkeypatch.setattr(access, "settings", lambda: SimpleNamespace(state=tmp_path))
    monkeypatch.setattr(steps, "ContractStore", lambda state: store)

    def use(name: str, value: Any) -> None:
        def called(*args: Any, **named: Any) -> Any:
            if isinstance(value, Exception):
                raise value
            return value

        monkeypatch.setattr(name.replace(":", "."), called)

    return use


def plan_of(*actions: Action, refusals: tuple[Refusal, ...] = (), notes: tuple[Note, ...] = ()) -> Any:
    return SimpleNamespace(actions=actions, refusals=refusals, notes=notes)


def test_the_plan_is_told_line_by_line_and_changes_nothing(
    answer: Replace, capsys: pytest.CaptureFixture[str]
) -> None:
    answer("headgate.topics.plan:make_plan", plan_of(ACTION, notes=(NOTE,)))
    assert PlanOperator(task_id="plan", pipeline="logs").execute({}) == 1
    told = capsys.readouterr().out
    assert "+ topic logs: 4 partitions (it is not there)" in told
    assert "retention was changed by hand" in told


@pytest.mark.parametrize("operator", [PlanOperator, ApplyOperator])
def test_a_refused_plan_fails_the_task_with_reasons_and_choices(answer: Replace, operator: Any) -> None:
    answer("headgate.topics.plan:make_plan", plan_of(ACTION, refusals=(REFUSAL,)))
    answer("headgate.topics.apply:apply_plan", AssertionError("must not be applied"))
    with pytest.raises(AirflowFailException) as failed:
        operator(task_id="step", pipeline="logs").execute({})
    for part in ("topic logs", "4 partitions became 2", "keep 4", "headgate plan"):
        assert part in str(failed.value)


def test_apply_carries_out_the_plan(answer: Replace) -> None:
    answer("headgate.topics.plan:make_plan", plan_of(ACTION))
    answer("headgate.topics.apply:apply_plan", SimpleNamespace(done=(ACTION,)))
    assert ApplyOperator(task_id="apply", pipeline="logs").execute({}) == 1


def test_a_plan_that_is_out_of_date_fails_the_task_at_once(answer: Replace) -> None:
    answer("headgate.topics.plan:make_plan", plan_of(ACTION))
    answer("headgate.topics.apply:apply_plan", PlanChangedError("somebody was faster"))
    with pytest.raises(AirflowFailException, match="somebody was faster"):
        ApplyOperator(task_id="apply", pipeline="logs").execute({})


def test_an_unreachable_broker_is_left_to_airflows_retries(answer: Replace) -> None:
    answer("headgate.topics.plan:make_plan", KafkaUnavailable("no broker"))
    with pytest.raises(KafkaUnavailable):
        PlanOperator(task_id="plan", pipeline="logs").execute({})


def finding(severity: str) -> Any:
    from headgate.checkpoints.preflight import Finding

    return Finding("offsets", severity, f"what was {severity}", ("headgate restart logs",))  # type: ignore[arg-type]


def test_preflight_lets_a_stream_start_that_fits(answer: Replace, capsys: pytest.CaptureFixture[str]) -> None:
    answer("headgate.checkpoints.preflight:preflight", [finding("ok"), finding("warn")])
    PreflightOperator(task_id="preflight", pipeline="logs").execute({})
    assert "what was warn" in capsys.readouterr().out


def test_preflight_refuses_with_the_reasons_and_the_choices(answer: Replace) -> None:
    answer("headgate.checkpoints.preflight:preflight", [finding("ok"), finding("refuse")])
    with pytest.raises(AirflowFailException) as failed:
        PreflightOperator(task_id="preflight", pipeline="logs").execute({})
    assert "what was refuse" in str(failed.value)
    assert "headgate restart logs" in str(failed.value)
    assert "what was ok" not in str(failed.value)


def quality(answer: Replace, *verdicts: Verdict) -> Any:
    answer("headgate.quality.check:run_check", list(verdicts))
    return QualityOperator(task_id="check", pipeline="logs").execute({})


def test_a_check_that_passed_is_green(answer: Replace) -> None:
    assert quality(answer, PASSED) == {"levels": "passed"}


def test_a_critical_failure_is_red_and_names_the_expectation(answer: Replace) -> None:
    broken = ExpectationResult(
        "ExpectColumnValuesToNotBeNull", "level", "critical", False, "3 of 10 are null"
    )
    failed = replace(PASSED, status="failed", severity="critical", expectations=(broken,))
    with pytest.raises(AirflowFailException) as red:
        quality(answer, PASSED, failed)
    assert "3 of 10 are null" in str(red.value)
    assert "QualityFailed" in str(red.value)


def test_a_failure_that_is_a_warning_stays_green(answer: Replace) -> None:
    assert quality(answer, replace(PASSED, status="failed", severity="warning")) == {"levels": "failed"}


def test_a_check_that_broke_says_that_it_tells_nothing_about_the_data(answer: Replace) -> None:
    with pytest.raises(AirflowFailException, match=r"itself broke.*the table is locked"):
        quality(answer, replace(PASSED, status="errored", detail="the table is locked"))


def test_without_data_the_check_is_skipped(answer: Replace) -> None:
    with pytest.raises(AirflowSkipException, match="no data"):
        quality(answer, replace(PASSED, status="no_data"))


def test_one_output_with_data_is_enough_to_be_judged(answer: Replace) -> None:
    assert quality(answer, PASSED, replace(PASSED, output="other", status="no_data"))["other"] == "no_data"


OWNER = Owner("airflow", dag_id="stream.logs", run_id="r1", task_id="run_stream", try_number=1)
LIVE = StreamStatus(
    stream="logs",
    pipeline="logs",
    phase=Phase.RUNNING,
    desired=Desired.RUNNING,
    generation=4,
    epoch=7,
    contract_hash="ab" * 32,
    owner=OWNER,
)


class Client:
    def __init__(self) -> None:
        self.stops: list[str] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def streams(self) -> list[StreamStatus]:
        return [LIVE]

    def stop(self, stream: str, **order: Any) -> None:
        assert order["owner"] == OWNER
        self.stops.append(stream)


class TaskInstance:
    """What the sweep asks Airflow for; `states` is the answer or the error of the call."""

    def __init__(self, states: Any, watch: str | None = None, paused: Any = False) -> None:
        self.states, self.watch, self.paused = states, watch, paused

    def get_task_states(self, *, dag_id: str, task_ids: list[str], run_ids: list[str]) -> Any:
        assert (dag_id, task_ids, run_ids) == ("stream.logs", ["run_stream"], ["r1"])
        if isinstance(self.states, Exception):
            raise self.states
        return self.states

    def xcom_pull(self, **what: Any) -> str | None:
        assert what == {"dag_id": "stream.logs", "run_id": "r1", "task_ids": "run_stream", "key": "watch"}
        return self.watch

    def get_dag(self, dag_id: str) -> Any:
        if isinstance(self.paused, Exception):
            raise self.paused
        return SimpleNamespace(is_paused=self.paused)


def sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ti: TaskInstance) -> tuple[list[str], list[str]]:
    client = Client()
    monkeypatch.setattr(access, "client", lambda: client)
    monkeypatch.setattr(access, "settings", lambda: SimpleNamespace(state=tmp_path))
    ReconcileOperator(task_id="sweep").execute({"ti": ti})
    found = json.loads((tmp_path / HEARTBEAT_FILE).read_text())["found"]
    return client.stops, [each["kind"] for each in found]


@pytest.mark.parametrize(
    ("ti", "stops", "found"),
    [
        (TaskInstance({"r1": {"run_stream": "deferred"}}), [], []),
        (TaskInstance({"r1": {"run_stream": "success"}}), ["logs"], ["stop"]),
        (TaskInstance({"r1": {"run_stream": "failed"}}, watch="deferred"), ["logs"], ["stop"]),
        (TaskInstance({"r1": {"run_stream": "failed"}}, watch="resuming"), [], ["unwatched"]),
        (TaskInstance({}), ["logs"], ["stop"]),
        (TaskInstance({"r1": {}}), ["logs"], ["stop"]),
        (TaskInstance(RuntimeError("the API is away")), [], ["unknown"]),
        (TaskInstance({"r1": {"run_stream": "deferred"}}, paused=True), [], ["paused"]),
        (TaskInstance({"r1": {"run_stream": "deferred"}}, paused=RuntimeError("no DAG")), [], []),
    ],
    ids=[
        "a task that goes on",
        "a task that ended",
        "a task that a person failed",
        "a task that failed in a worker",
        "a run that was deleted",
        "a task that was deleted",
        "a call that failed",
        "a paused DAG",
        "a DAG that is gone",
    ],
)
def test_the_sweep_acts_on_what_airflow_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ti: TaskInstance, stops: list[str], found: list[str]
) -> None:
    assert sweep(monkeypatch, tmp_path, ti) == (stops, found)


def test_a_sweep_without_a_supervisor_fails_and_writes_no_heartbeat(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def away() -> Any:
        raise SupervisorUnavailable("nobody answers")

    monkeypatch.setattr(access, "client", away)
    with pytest.raises(AirflowFailException, match="nobody answers"):
        ReconcileOperator(task_id="sweep").execute({"ti": TaskInstance({})})
    assert not (tmp_path / HEARTBEAT_FILE).exists()
