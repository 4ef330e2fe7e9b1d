from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSkipException,
    DagRunTriggerException,
    DownstreamTasksSkipped,
)

from headgate.airflow import access, operate
from headgate.airflow.operate import OrderOperator, ShowPlanOperator, WatchAgainOperator, approval_task, form
from headgate.airflow.operations import CHOICES, Proposal
from headgate.errors import SupervisorUnavailable, UnavailableError
from headgate.streams.model import Desired, DriverStatus, Owner, Phase, StreamStatus

TASK = Owner("airflow", dag_id="stream.logs", run_id="r1", task_id="run_stream", try_number=1)
RUNNING = StreamStatus(
    stream="logs",
    pipeline="logs",
    phase=Phase.RUNNING,
    desired=Desired.RUNNING,
    generation=4,
    epoch=7,
    contract_hash="ab" * 32,
    owner=TASK,
)
STOPPING = replace(RUNNING, phase=Phase.STOPPING, desired=Desired.STOPPED)
STOPPED = replace(STOPPING, phase=Phase.STOPPED)
PLAN = Proposal(("the driver ends",), "nothing", "nothing", 4, "running", "ab" * 32)
YES = {"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": "bob"}}


def driver(generation: int) -> DriverStatus:
    return DriverStatus("logs", "logs", 8, generation, "ab" * 32, "1-a", "1", 1, "running", 1.0)


class Client:
    """Answers with one status after the other; the last one stays."""

    def __init__(self, *answers: StreamStatus | Exception) -> None:
        self.answers = list(answers)
        self.ordered: list[dict[str, Any]] = []

    def status(self, stream: str) -> StreamStatus:
        assert stream == "logs"
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stop(self, stream: str, **order: Any) -> StreamStatus:
        self.ordered.append(order)
        return self.status(stream)

    restart = drain = retire = stop

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Any:
    store = SimpleNamespace(current=lambda pipeline: SimpleNamespace(hash="ab" * 32))
    monkeypatch.setattr(access, "settings", lambda: SimpleNamespace(state="var"))
    monkeypatch.setattr(operate, "ContractStore", lambda state: store)
    monkeypatch.setattr(operate, "POLL_SECONDS", 0.0)

    def client(*answers: StreamStatus | Exception) -> Client:
        found = Client(*answers)
        monkeypatch.setattr(access, "client", lambda: found)
        return found

    return client


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`plan(proposal)`: what every choice proposes."""

    def gives(proposal: Proposal | Exception) -> None:
        def propose(ground: Any, request: Any) -> Proposal:
            if isinstance(proposal, Exception):
                raise proposal
            return proposal

        monkeypatch.setattr(operate, "choice", lambda name: replace(CHOICES[0], propose=propose))

    return gives


class Context(dict[str, Any]):
    """Airflow's context of a run of `operate.logs` that asks for `action`."""

    def __init__(self, action: str = "stop", **pulled: Any) -> None:
        self.pushed: dict[str, Any] = {}
        self.paused = False
        ti = SimpleNamespace(
            dag_id="operate.logs",
            run_id="r9",
            xcom_pull=lambda task_ids: pulled[task_ids],
            xcom_push=lambda key, value: self.pushed.update({key: value}),
            get_dag=lambda dag_id: SimpleNamespace(is_paused=self.paused),
        )
        run = SimpleNamespace(triggering_user_name="ann")
        super().__init__(ti=ti, dag_run=run, params={"action": action, "reason": "new heap"})


def order(context: Context) -> dict[str, Any]:
    return OrderOperator(task_id="order", pipeline="logs").execute(context)


DRAINING = replace(RUNNING, driver=driver(4), draining={"left": 9, "deadline_at": 1.0, "given_up": ""})


def test_a_drain_is_followed_until_the_stream_has_stopped(use: Any) -> None:
    client = use(RUNNING, DRAINING, DRAINING, STOPPING, STOPPED)
    done = order(Context("drain and stop", show_plan=PLAN.to_json(), approve=YES))
    assert done == {"generation": 4, "phase": "stopped", "watch": False}
    assert client.ordered[0]["deadline_seconds"] == 600.0


def test_a_drain_that_is_given_up_fails_and_says_that_the_stream_runs_on(use: Any) -> None:
    given_up = replace(DRAINING, draining={**(DRAINING.draining or {}), "given_up": "9 records are left"})
    use(RUNNING, DRAINING, given_up)
    with pytest.raises(AirflowFailException, match="was not drained, and runs on: 9 records are left"):
        order(Context("drain and stop", show_plan=PLAN.to_json(), approve=YES))


def test_a_drain_of_a_stream_that_parks_fails_with_the_reason(use: Any) -> None:
    use(RUNNING, DRAINING, replace(DRAINING, phase=Phase.PARKED, reason="offsets are gone"))
    with pytest.raises(AirflowFailException, match="is parked: offsets are gone"):
        order(Context("drain and stop", show_plan=PLAN.to_json(), approve=YES))


REPLACED = replace(RUNNING, generation=5, owner=Owner("cli", user="carol"), driver=driver(5))


@pytest.mark.parametrize(
    ("action", "answers"),
    [
        ("drain and stop", (DRAINING, DRAINING, REPLACED)),
        ("drain and stop", (DRAINING, replace(RUNNING, driver=driver(4)))),
        ("stop", (STOPPING, REPLACED)),
        ("retire", (replace(STOPPING, desired=Desired.RETIRED), REPLACED)),
    ],
    ids=["drain", "drain-of-the-same-generation", "stop", "retire"],
)
def test_an_end_that_another_order_replaced_fails_as_the_stream_runs_on(
    use: Any, action: str, answers: tuple[StreamStatus, ...]
) -> None:
    use(RUNNING, *answers)
    with pytest.raises(AirflowFailException, match=f"replaced by generation {answers[-1].generation}"):
        order(Context(action, show_plan=PLAN.to_json(), approve=YES))


def test_a_parked_stream_can_be_stopped(use: Any) -> None:
    parked = replace(RUNNING, phase=Phase.PARKED)
    use(parked, replace(parked, desired=Desired.STOPPED), STOPPED)
    assert order(Context("stop", show_plan=PLAN.to_json(), approve=YES))["phase"] == "stopped"


def test_after_a_retirement_nothing_follows_as_the_dag_goes_too(use: Any) -> None:
    retiring = replace(STOPPING, desired=Desired.RETIRED)
    stopped = replace(retiring, phase=Phase.STOPPED)
    use(RUNNING, retiring, stopped, replace(retiring, phase=Phase.RETIRED))
    with pytest.raises(DownstreamTasksSkipped) as caught:
        order(Context("retire", show_plan=PLAN.to_json(), approve=YES))
    assert caught.value.tasks == ["watch_again"]


def test_the_form_offers_what_is_carried_out_and_nothing_else() -> None:
    fields = form()
    assert fields["action"].schema["enum"] == [
        "restart from checkpoint",
        "stop",
        "drain and stop",
        "retire",
        "restart from snapshot",
        "restart from earliest",
        "restart from latest",
        "restart from timestamp",
    ]
    assert sorted(fields) == ["action", "reason", "value"]
    for each in CHOICES:
        assert each.help in fields["action"].schema["description_md"]


def test_the_form_has_a_field_for_a_value_once_a_choice_needs_one() -> None:
    fields = form([*CHOICES, replace(CHOICES[0], name="restart from a time", value="a moment, ISO 8601")])
    assert "a moment, ISO 8601" in fields["value"].schema["description_md"]


def test_a_reason_is_asked_for() -> None:
    field: Param = form()["reason"]
    assert field.schema["minLength"] > 0


def test_the_plan_is_shown_to_the_log_and_to_who_is_asked(
    use: Any, plan: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    use(RUNNING)
    plan(PLAN)
    context = Context()
    assert ShowPlanOperator(task_id="show_plan", pipeline="logs").execute(context) == PLAN.to_json()
    body = context.pushed["body"]
    told = capsys.readouterr().out
    for part in ("**stop** of **logs**", "asked for by ann", "the driver ends", "read again", "lost"):
        assert part in body
        assert part in told


def test_a_plan_that_is_refused_asks_nobody(use: Any, plan: Any) -> None:
    use(RUNNING)
    plan(replace(PLAN, refusals=("10 records are gone",)))
    context = Context()
    with pytest.raises(AirflowFailException, match="10 records are gone"):
        ShowPlanOperator(task_id="show_plan", pipeline="logs").execute(context)
    assert context.pushed == {}


def test_a_supervisor_that_is_away_is_left_to_airflows_retries(use: Any) -> None:
    use(SupervisorUnavailable("no answer"))
    with pytest.raises(SupervisorUnavailable):
        ShowPlanOperator(task_id="show_plan", pipeline="logs").execute(Context())


def test_the_question_shows_the_plan_and_lapses_after_an_hour() -> None:
    with DAG("operate.logs"):
        task = approval_task("logs", ["bob"], owner="team")
    assert "show_plan" in task.body and "body" in task.body
    assert task.defaults == ["Reject"]
    assert task.response_timeout == operate.ANSWER_WITHIN
    assert task.assigned_users == [{"id": "bob", "name": "bob"}]
    with DAG("operate.logs"):
        assert approval_task("logs", (), owner="team").assigned_users is None


def test_an_approved_order_is_given_and_waited_for(use: Any) -> None:
    client = use(RUNNING, STOPPING, STOPPING, STOPPED)
    done = order(Context(show_plan=PLAN.to_json(), approve=YES))
    assert client.ordered[0]["actor"] == "airflow:bob@operate.logs"
    assert done == {"generation": 4, "phase": "stopped", "watch": False}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {"chosen_options": ["Reject"], "responded_by_user": {"name": "bob"}},
        {**YES, "responded_by_user": None},
    ],
)
def test_without_a_name_and_a_yes_nothing_is_ordered(use: Any, answer: Any) -> None:
    client = use(RUNNING)
    with pytest.raises(AirflowFailException, match="nobody has approved"):
        order(Context(show_plan=PLAN.to_json(), approve=answer))
    assert client.ordered == []


def test_a_stream_that_changed_since_the_plan_is_left_alone(use: Any) -> None:
    client = use(replace(RUNNING, generation=5))
    with pytest.raises(AirflowFailException, match="generation 4, running, became generation 5"):
        order(Context(show_plan=PLAN.to_json(), approve=YES))
    assert client.ordered == []


def test_a_restart_waits_for_the_driver_of_its_own_generation(use: Any) -> None:
    after = replace(RUNNING, generation=5)
    use(RUNNING, after, replace(after, driver=driver(4)), replace(after, driver=driver(5)))
    done = order(Context("restart from checkpoint", show_plan=PLAN.to_json(), approve=YES))
    assert done == {"generation": 5, "phase": "running", "watch": False}


def test_a_restarted_stream_that_parks_fails_the_task_with_the_reason(use: Any) -> None:
    after = replace(RUNNING, generation=5)
    use(RUNNING, after, replace(after, phase=Phase.PARKED, reason="offsets are gone"))
    with pytest.raises(AirflowFailException, match="offsets are gone"):
        order(Context("restart from checkpoint", show_plan=PLAN.to_json(), approve=YES))


def test_a_stream_that_nobody_waited_for_is_to_be_watched_again(use: Any) -> None:
    before = replace(RUNNING, phase=Phase.PARKED)
    after = replace(RUNNING, generation=5, owner=Owner("cli", user="bob"), driver=driver(5))
    use(before, after)
    assert order(Context("restart from checkpoint", show_plan=PLAN.to_json(), approve=YES))["watch"] is True


def test_an_order_that_is_not_carried_out_in_time_is_an_error(use: Any) -> None:
    client = use(STOPPING)
    with pytest.raises(UnavailableError, match="still stopping"):
        operate.settle(client, STOPPING, seconds=0)


def watch(context: Context) -> None:
    WatchAgainOperator(task_id="watch_again", stream_dag="stream.logs").execute(context)


def test_a_stream_that_is_watched_is_not_started_twice() -> None:
    with pytest.raises(AirflowSkipException):
        watch(Context(order={"watch": False, "phase": "running"}))


def test_the_streams_dag_is_started_once_for_one_order() -> None:
    with pytest.raises(DagRunTriggerException) as triggered:
        watch(Context(order={"watch": True, "phase": "running"}))
    assert triggered.value.trigger_dag_id == "stream.logs"
    assert triggered.value.dag_run_id == "after__r9"
    assert triggered.value.skip_when_already_exists is True


def test_a_paused_streams_dag_is_said_and_not_waited_for() -> None:
    context = Context(order={"watch": True, "phase": "running"})
    context.paused = True
    with pytest.raises(AirflowFailException, match=r"stream\.logs is paused"):
        watch(context)
