"""Airflow as the remote control of streams, on a live Airflow with the real supervisor.

Process level: a light driver stands where Spark's would, so that many lives of a stream fit into
minutes. The tests run in the order of the file and hand one DAG run on from the first. Each wait has a
deadline and no test measures time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from remote_control import (
    OPERATE_DAG,
    PIPELINE,
    QUALITY_DAG,
    SOON,
    STREAM_DAG,
    SWEPT,
    TASK,
    RemoteControl,
    remote_control,
)

from headgate.airflow.dags import RECONCILE_DAG
from headgate.contract.frozen import ContractStore
from headgate.streams import proc
from headgate.streams.model import Phase
from monitoring.monitor import Monitor

Poll = Callable[..., Any]


@pytest.fixture(scope="module")
def platform(
    tmp_path_factory: pytest.TempPathFactory,
    private_environ: Callable[[str], dict[str, str]],
    broker: Any,
    poll_until: Poll,
) -> Iterator[RemoteControl]:
    home = tmp_path_factory.mktemp("airflow-home")
    with remote_control(home, private_environ("airflow"), broker.bootstrap, poll_until) as running:
        yield running


def test_a_run_is_deferred_while_exactly_one_driver_lives(platform: RemoteControl) -> None:
    platform.wait_dags()
    platform.airflow.unpause(STREAM_DAG)
    platform.airflow.unpause(QUALITY_DAG)
    status = platform.start()
    assert status.owner is not None
    assert status.owner.label == f"airflow:{STREAM_DAG}/{platform.run_id}/{TASK}"
    for step in ("plan", "apply", "preflight"):
        assert platform.task(step)["state"] == "success"


def test_progress_and_links_are_live_while_the_task_is_deferred(platform: RemoteControl) -> None:
    def progress() -> Any:
        found = platform.airflow.xcom(STREAM_DAG, platform.run_id, TASK, "progress")
        return found if found["queries"] else None

    found = platform.wait(progress, SOON, "the trigger has shown progress")
    assert found["phase"] == "running"
    assert found["queries"]["records"]["batch"] >= 0
    links = platform.airflow.links(STREAM_DAG, platform.run_id, TASK)
    assert links["Spark UI"] == "http://127.0.0.1:1/epoch-1"
    assert links["Status page"] == f"http://127.0.0.1:{platform.settings.exporter.port}/#stream-{PIPELINE}"
    assert links["Runbook"] is not None
    assert "StreamDown" in links["Runbook"]


def test_the_first_commit_schedules_the_quality_check(platform: RemoteControl) -> None:
    platform.wait_task("success", SOON, "first_commit")

    def by_asset() -> bool:
        runs = platform.airflow.call("GET", f"/dags/{QUALITY_DAG}/dagRuns")["dag_runs"]
        return any(run["run_type"] == "asset_triggered" for run in runs)

    platform.wait(by_asset, SOON, "the quality DAG was started by the asset")
    platform.airflow.pause(QUALITY_DAG)  # its check needs tables, which the light driver does not write


def test_clear_starts_a_new_generation_with_exactly_one_driver(platform: RemoteControl) -> None:
    (before,) = platform.drivers()
    status = platform.clear()
    assert proc.start_ticks(before) is None
    assert platform.task()["try_number"] == 2
    assert status.owner is not None
    assert (status.owner.try_number, status.owner.clear_number) == (2, 1)
    # The old trigger's on_kill comes after the new execute(); it must not have stopped the new driver.
    assert platform.wait_running(status.generation).stopped_by is None


def test_a_restart_of_the_triggerer_touches_nothing(platform: RemoteControl) -> None:
    before, task = platform.drivers(), platform.task()
    triggerer = platform.airflow.parts["triggerer"]
    triggerer.stop()
    seen = platform.status().driver
    assert seen is not None
    triggerer.start()

    def watched_again() -> bool:
        found = platform.airflow.xcom(STREAM_DAG, platform.run_id, TASK, "progress")
        return bool(found["queries"]["records"]["batch"] > seen.queries["records"].batch_id)

    platform.wait(watched_again, 120.0, "the new triggerer shows progress")
    assert platform.drivers() == before
    assert platform.status().generation == seen.generation
    assert platform.task()["state"] == "deferred"
    assert platform.task()["try_number"] == task["try_number"]


def test_a_restart_by_the_command_line_leaves_the_waiting_task_in_charge(platform: RemoteControl) -> None:
    task, generation = platform.task(), platform.status().generation + 1
    platform.client.restart(PIPELINE, actor="cli:ann", reason="new heap", idempotency_key="restart-1")
    status = platform.wait_running(generation)
    assert status.owner is not None
    assert status.owner.run_id == platform.run_id

    def followed() -> bool:
        found = platform.airflow.xcom(STREAM_DAG, platform.run_id, TASK, "progress")
        return bool(found["generation"] == generation)

    platform.wait(followed, SOON, "the trigger follows the new generation")
    assert platform.task()["state"] == "deferred"
    assert platform.task()["try_number"] == task["try_number"]


def test_a_paused_dag_leaves_the_stream_running_and_is_reported(platform: RemoteControl) -> None:
    generation = platform.status().generation
    platform.airflow.pause(STREAM_DAG)
    (found,) = platform.sweep()["found"]
    shown = Monitor(platform.settings, background=False).read_once(60.0).pipeline(PIPELINE)
    platform.airflow.unpause(STREAM_DAG)
    assert (found["kind"], found["stream"]) == ("paused", PIPELINE)
    assert shown is not None
    assert shown.airflow_finding == "paused"
    assert "paused in Airflow" in shown.conditions
    assert platform.wait_running(generation).stopped_by is None


def test_mark_failed_stops_the_stream(platform: RemoteControl) -> None:
    generation = platform.status().generation
    platform.airflow.pause(RECONCILE_DAG)  # its sweep stops the stream too: here the trigger is to do it
    platform.airflow.mark(STREAM_DAG, platform.run_id, TASK, "failed")
    status = platform.wait_stopped(SOON)
    platform.airflow.unpause(RECONCILE_DAG)
    assert status.stopped_by is not None
    assert "failed" in status.stopped_by
    assert not status.stopped_by.startswith("airflow:headgate.reconcile")
    assert status.generation == generation


def test_mark_success_stops_the_stream_even_while_no_triggerer_runs(platform: RemoteControl) -> None:
    platform.clear()
    triggerer = platform.airflow.parts["triggerer"]
    triggerer.kill()
    platform.airflow.mark(STREAM_DAG, platform.run_id, TASK, "success")
    status = platform.wait_stopped(SWEPT)
    triggerer.start()
    assert status.stopped_by is not None
    assert status.stopped_by.startswith("airflow:headgate.reconcile")


def test_a_stop_by_the_command_line_skips_the_task_and_says_who_and_why(platform: RemoteControl) -> None:
    platform.clear()
    platform.client.stop(PIPELINE, actor="cli:ann", reason="disk change", deadline_seconds=30)
    platform.wait_task("skipped", 120.0)
    assert not platform.drivers()
    assert "cli:ann: disk change" in platform.log()


def test_a_parked_stream_fails_the_task_with_the_cause(platform: RemoteControl) -> None:
    platform.clear()
    trip = platform.settings.state / "streams" / PIPELINE / "fail"
    trip.touch()
    platform.wait(lambda: platform.task()["state"] == "failed", SOON, "the task has failed")
    log = platform.log()
    trip.unlink()
    assert "data_loss" in log
    assert f"headgate restart {PIPELINE}" in log


STARTED = ("running", "awaiting_input")


def wait_asked(platform: RemoteControl, run_id: str) -> None:
    def asked() -> bool:
        state = platform.airflow.task(OPERATE_DAG, run_id, "approve")["state"]
        return bool(state == "awaiting_input")

    platform.wait(asked, SOON, "a person is asked")


def ask(platform: RemoteControl, action: str, reason: str) -> tuple[str, dict[str, Any]]:
    """Trigger the DAG of orders, up to the question: the run's id and what is asked."""
    run_id = platform.airflow.run(OPERATE_DAG, action=action, reason=reason)
    wait_asked(platform, run_id)
    return run_id, platform.airflow.question(OPERATE_DAG, run_id, "approve")


def wait_order(platform: RemoteControl, run_id: str) -> dict[str, str]:
    """Until the run of an order is over; the state of each of its tasks."""

    def over() -> bool:
        return platform.airflow.run_state(OPERATE_DAG, run_id) in ("success", "failed")

    platform.wait(over, SWEPT, "the order is over")
    tasks = ("show_plan", "approve", "order", "watch_again")
    return {name: platform.airflow.task(OPERATE_DAG, run_id, name)["state"] for name in tasks}


def test_an_order_that_is_rejected_changes_nothing(platform: RemoteControl) -> None:
    generation = platform.status().generation
    run_id, question = ask(platform, "restart from checkpoint", "try it")
    assert question["subject"] == f"restart from checkpoint: {PIPELINE}?"
    for part in ("try it", "parked", "read again", "lost"):
        assert part in question["body"]
    platform.airflow.answer(OPERATE_DAG, run_id, "approve", "Reject")
    states = wait_order(platform, run_id)
    assert (states["approve"], states["order"], states["watch_again"]) == ("success", "skipped", "skipped")
    assert platform.status().generation == generation


def test_an_answer_that_is_quicker_than_the_scheduler_is_carried_out(platform: RemoteControl) -> None:
    """The task's next process begins before the scheduler has heard that the one that asked is over."""
    scheduler = platform.airflow.parts["scheduler"]
    run_id = platform.airflow.run(OPERATE_DAG, action="restart from checkpoint", reason="a quick yes")
    asking = lambda: platform.airflow.task(OPERATE_DAG, run_id, "approve")["state"] in STARTED  # noqa: E731
    platform.wait(asking, SOON, "the task that asks has begun")
    platform.airflow.freeze_scheduler_alone()
    try:
        wait_asked(platform, run_id)
        platform.airflow.answer(OPERATE_DAG, run_id, "approve", "Reject")
    finally:
        scheduler.thaw()
    states = wait_order(platform, run_id)
    assert (states["approve"], states["order"]) == ("success", "skipped")


def test_an_approved_restart_of_a_parked_stream_runs_and_is_watched_again(platform: RemoteControl) -> None:
    generation = platform.status().generation
    run_id, _ = ask(platform, "restart from checkpoint", "the data is back")
    platform.airflow.answer(OPERATE_DAG, run_id, "approve", "Approve")
    assert set(wait_order(platform, run_id).values()) == {"success"}
    orders = [event for event in platform.client.events(PIPELINE, after=-1) if event.kind == "order"]
    (approved,) = [event for event in orders if event.generation == generation + 1]
    user = platform.settings.airflow.username
    assert approved.actor == f"airflow:{user}@{OPERATE_DAG}"
    assert f"approved by {user}: the data is back" in approved.detail
    # Nobody waited for the stream any more, so its DAG was started: a generation that Airflow watches.
    platform.run_id = f"after__{run_id}"
    platform.wait_task("deferred", SOON)
    status = platform.wait_running(generation + 2)
    assert status.owner is not None
    assert status.owner.run_id == platform.run_id


def test_an_approved_stop_skips_the_waiting_task_and_names_who_approved(platform: RemoteControl) -> None:
    run_id, question = ask(platform, "stop", "disk change")
    assert "ends as skipped" in question["body"]
    platform.airflow.answer(OPERATE_DAG, run_id, "approve", "Approve")
    states = wait_order(platform, run_id)
    assert (states["order"], states["watch_again"]) == ("success", "skipped")
    assert platform.status().phase is Phase.STOPPED
    assert not platform.drivers()
    platform.wait_task("skipped", SOON)
    user = platform.settings.airflow.username
    assert f"airflow:{user}@{OPERATE_DAG}: stop, approved by {user}: disk change" in platform.log()


def test_an_approved_retirement_ends_the_stream_for_good_and_skips_what_follows(
    platform: RemoteControl,
) -> None:
    run_id, question = ask(platform, "retire", "the shop has closed")
    assert "its topics, tables, checkpoints, contracts and events stay" in question["body"]
    platform.airflow.answer(OPERATE_DAG, run_id, "approve", "Approve")
    states = wait_order(platform, run_id)
    assert (states["order"], states["watch_again"]) == ("success", "skipped")
    assert platform.status().phase is Phase.RETIRED
    assert PIPELINE not in ContractStore(platform.settings.state).applied()
