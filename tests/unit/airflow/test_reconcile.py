from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headgate.airflow.reconcile import (
    HEARTBEAT_FILE,
    Action,
    Kind,
    TaskView,
    airflow_owners,
    carry_out,
    plan_reconcile,
    write_heartbeat,
)
from headgate.airflow.stopping import GONE
from headgate.errors import RefusedError, SupervisorUnavailable
from headgate.streams.model import Desired, Owner, Phase, StreamStatus

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


def kinds(status: StreamStatus, task: TaskView, paused: bool = False) -> list[Kind]:
    return [a.kind for a in plan_reconcile([status], {OWNER: task}, {OWNER.dag_id: paused})]


@pytest.mark.parametrize("state", ["success", "failed", "skipped", "removed", GONE])
def test_a_live_stream_whose_task_is_over_or_deleted_is_stopped(state: str) -> None:
    assert kinds(LIVE, TaskView(state, watch="deferred")) == [Kind.STOP]


@pytest.mark.parametrize("state", [None, "scheduled", "queued", "running", "deferred", "restarting"])
def test_a_live_stream_whose_task_goes_on_is_left_alone(state: str | None) -> None:
    assert kinds(LIVE, TaskView(state)) == []


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.BACKOFF])
def test_a_stream_that_is_about_to_run_counts_as_live(phase: Phase) -> None:
    assert kinds(replace(LIVE, phase=phase), TaskView("success")) == [Kind.STOP]


@pytest.mark.parametrize("phase", [Phase.PARKED, Phase.STOPPED, Phase.STOPPING, Phase.RETIRED])
def test_a_stream_that_does_not_run_keeps_its_reason(phase: Phase) -> None:
    assert kinds(replace(LIVE, phase=phase), TaskView("failed")) == []


def test_a_failed_call_to_airflow_is_not_a_deleted_task() -> None:
    assert kinds(LIVE, TaskView(known=False)) == [Kind.UNKNOWN]
    assert [a.kind for a in plan_reconcile([LIVE], {}, {})] == [Kind.UNKNOWN]


@pytest.mark.parametrize("watch", ["ordering", "resuming"])
def test_a_task_that_failed_in_the_hands_of_a_worker_is_reported_and_not_stopped(watch: str) -> None:
    assert kinds(LIVE, TaskView("failed", watch=watch)) == [Kind.UNWATCHED]


def test_a_step_before_the_task_that_failed_stops_no_stream() -> None:
    """Clear a whole run while Kafka is away: `plan` fails, and the stream that runs is not to blame."""
    assert kinds(LIVE, TaskView("upstream_failed", watch="deferred")) == [Kind.UNWATCHED]


def test_a_task_that_a_person_marked_is_stopped_wherever_it_was() -> None:
    assert kinds(LIVE, TaskView("success", watch="ordering")) == [Kind.STOP]


def test_a_paused_dag_with_a_live_stream_is_reported() -> None:
    assert kinds(LIVE, TaskView("deferred"), paused=True) == [Kind.PAUSED]


def test_a_stream_without_an_owner_is_reported_and_never_stopped() -> None:
    assert kinds(replace(LIVE, owner=None), TaskView("failed")) == [Kind.OWNERLESS]


def test_a_stream_of_the_command_line_is_none_of_airflows_business() -> None:
    assert kinds(replace(LIVE, owner=Owner("cli", user="ann")), TaskView("failed")) == []


def test_only_live_streams_of_airflow_are_asked_about() -> None:
    streams = [LIVE, replace(LIVE, phase=Phase.PARKED), replace(LIVE, owner=Owner("cli", user="ann"))]
    assert airflow_owners(streams) == [OWNER]


class Recorder:
    """Takes the place of the client's one call, and can refuse it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.stops: list[dict[str, Any]] = []

    def stop(self, stream: str, **order: Any) -> None:
        if self.error:
            raise self.error
        self.stops.append({"stream": stream, **order})


def plan(*tasks: TaskView) -> list[Action]:
    return [a for task in tasks for a in plan_reconcile([LIVE], {OWNER: task}, {})]


def test_a_stop_is_fenced_by_owner_and_generation() -> None:
    client = Recorder()
    actions = plan(TaskView("success"), TaskView(known=False))
    done = carry_out(actions, client, lambda *_: None)  # type: ignore[arg-type]
    assert [a.kind for a in done] == [Kind.STOP]
    (stop,) = client.stops
    assert stop["owner"] == OWNER
    assert stop["generation"] == 4
    assert stop["mode"] == "graceful"


def test_a_stream_that_changed_hands_meanwhile_is_left_alone() -> None:
    told: list[str] = []
    client = Recorder(RefusedError("owned by cli:ann"))
    done = carry_out(plan(TaskView(GONE)), client, lambda text, *a: told.append(text % a))  # type: ignore[arg-type]
    assert done == []
    assert "owned by cli:ann" in told[0]


def test_a_supervisor_that_goes_away_fails_the_sweep() -> None:
    client = Recorder(SupervisorUnavailable("no answer"))
    with pytest.raises(SupervisorUnavailable):
        carry_out(plan(TaskView(GONE)), client, lambda *_: None)  # type: ignore[arg-type]


def test_the_heartbeat_holds_the_time_and_what_was_found(tmp_path: Path) -> None:
    write_heartbeat(tmp_path / "var", 3, plan(TaskView("deferred"), TaskView(GONE)))
    written = json.loads((tmp_path / "var" / HEARTBEAT_FILE).read_text())
    assert written["at"] > 0
    assert written["streams"] == 3
    assert [f["kind"] for f in written["found"]] == ["stop"]
    assert written["found"][0]["owner"]["run_id"] == "r1"
