from __future__ import annotations

from dataclasses import replace

import pytest

from headgate.airflow.decisions import (
    Decision,
    Outcome,
    ask_again,
    decide,
    first_commit,
    is_final,
    progress_line,
    snapshot,
    stops,
)
from headgate.streams.model import (
    Desired,
    DriverStatus,
    FailureClass,
    Owner,
    Phase,
    QueryProgress,
    StreamStatus,
)

OWNER = Owner("airflow", dag_id="stream.logs", run_id="r1", task_id="run_stream", try_number=1)
STATUS = StreamStatus(
    stream="logs",
    pipeline="logs",
    phase=Phase.RUNNING,
    desired=Desired.RUNNING,
    generation=4,
    epoch=7,
    contract_hash="ab" * 32,
    owner=OWNER,
)
QUERY = QueryProgress(batch_id=3, last_commit_at=1000.0, rows_per_second=12.4)
DRIVER = DriverStatus(
    stream="logs",
    pipeline="logs",
    epoch=7,
    generation=4,
    contract_hash="ab" * 32,
    lineage="l1",
    headgate_version="0.1.0",
    pid=1,
    phase="running",
    written_at=1000.0,
    ui_url="http://127.0.0.1:4040",
    queries={"records": QUERY},
)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RUNNING, Phase.BACKOFF, Phase.STOPPING])
def test_a_stream_that_lives_or_is_on_its_way_is_watched(phase: Phase) -> None:
    assert decide(replace(STATUS, phase=phase), 4, OWNER).outcome is Outcome.WATCH


def test_a_stream_that_is_down_but_desired_is_watched_since_the_platform_is_suspended() -> None:
    assert decide(replace(STATUS, phase=Phase.STOPPED), 4, OWNER).outcome is Outcome.WATCH


def test_a_newer_generation_of_the_same_owner_is_followed() -> None:
    assert decide(replace(STATUS, generation=5), 4, OWNER) == Decision(Outcome.WATCH, 5)


def test_an_older_generation_never_lowers_what_is_waited_for() -> None:
    assert decide(replace(STATUS, generation=2), 4, OWNER).generation == 4


def test_the_order_of_another_owner_ends_the_wait_and_names_the_owner() -> None:
    decision = decide(replace(STATUS, owner=Owner("cli", user="ann"), generation=5), 4, OWNER)
    assert decision.outcome is Outcome.SUPERSEDED
    assert "cli:ann" in decision.text


def test_a_newer_attempt_of_the_same_task_is_another_owner() -> None:
    newer = replace(OWNER, try_number=2, clear_number=1)
    assert decide(replace(STATUS, owner=newer, generation=5), 4, OWNER).outcome is Outcome.SUPERSEDED


def test_another_owner_matters_more_than_the_phase() -> None:
    taken = replace(STATUS, owner=Owner("cli", user="ann"), phase=Phase.PARKED)
    assert decide(taken, 4, OWNER).outcome is Outcome.SUPERSEDED


def test_a_parked_stream_ends_the_wait_with_its_cause_and_runbook() -> None:
    parked = replace(
        STATUS, phase=Phase.PARKED, failure_class=FailureClass.DATA_LOSS, reason="offsets 5 to 9 are gone"
    )
    decision = decide(parked, 4, OWNER)
    assert decision.outcome is Outcome.PARKED
    assert decision.failure_class == "data_loss"
    assert "offsets 5 to 9 are gone" in decision.text
    assert decision.runbook == "StreamDown"


def test_a_stop_by_a_person_says_who_and_why() -> None:
    stopped = replace(
        STATUS,
        phase=Phase.STOPPED,
        desired=Desired.STOPPED,
        stopped_by="cli:ann",
        reason="maintenance",
    )
    decision = decide(stopped, 4, OWNER)
    assert decision.outcome is Outcome.STOPPED
    assert "cli:ann" in decision.text
    assert "maintenance" in decision.text


def test_an_end_that_nobody_asked_for_is_an_error() -> None:
    ended = replace(STATUS, phase=Phase.STOPPED, desired=Desired.STOPPED, reason="exit code 0")
    assert decide(ended, 4, OWNER).outcome is Outcome.EXITED


def test_a_retired_stream_ends_the_wait() -> None:
    assert decide(replace(STATUS, phase=Phase.RETIRED), 4, OWNER).outcome is Outcome.RETIRED


def test_only_watching_does_not_end_the_wait() -> None:
    assert [o for o in Outcome if not Decision(o, 1).ends] == [Outcome.WATCH]


def test_a_decision_survives_the_trip_through_an_event() -> None:
    decision = Decision(Outcome.PARKED, 4, "text", "data_loss", "StreamDown")
    assert Decision.from_json(decision.to_json()) == decision


@pytest.mark.parametrize("state", ["success", "failed", "skipped", "upstream_failed", "removed"])
def test_final_states_are_final(state: str) -> None:
    assert is_final(state)


def test_a_step_before_the_task_that_failed_ends_the_task_and_stops_no_stream() -> None:
    assert is_final("upstream_failed")
    assert not stops("upstream_failed")
    assert stops("failed")


@pytest.mark.parametrize(
    "state", [None, "deferred", "scheduled", "queued", "running", "restarting", "up_for_retry", "gone"]
)
def test_states_of_a_possible_newer_attempt_are_not_final(state: str | None) -> None:
    assert not is_final(state)


def test_the_first_commit_is_seen_once_every_query_has_committed() -> None:
    assert first_commit(replace(STATUS, driver=DRIVER), OWNER, ["records"])


def test_a_query_without_a_commit_is_waited_for_and_not_for_ever() -> None:
    both = ["records", "average"]
    idle = {"records": QUERY}
    young = replace(STATUS, driver=replace(DRIVER, queries=idle, written_at=1030.0))
    old = replace(STATUS, driver=replace(DRIVER, queries=idle, written_at=1060.0))
    assert not first_commit(young, OWNER, both)
    assert first_commit(old, OWNER, both)


def test_the_commits_of_an_older_driver_are_not_this_runs_first() -> None:
    assert not first_commit(replace(STATUS, driver=replace(DRIVER, epoch=6)), OWNER, ["records"])
    assert not first_commit(replace(STATUS, driver=replace(DRIVER, generation=3)), OWNER, ["records"])


def test_the_commits_of_another_run_are_not_this_runs_first() -> None:
    status = replace(STATUS, driver=DRIVER)
    assert not first_commit(status, replace(OWNER, run_id="r2"), ["records"])
    assert not first_commit(replace(status, owner=None), OWNER, ["records"])


def test_a_cleared_stream_task_does_not_hide_the_runs_commit() -> None:
    cleared = replace(OWNER, try_number=2, clear_number=1)
    assert first_commit(replace(STATUS, driver=DRIVER, owner=cleared), OWNER, ["records"])


def test_without_any_commit_there_is_no_first_one() -> None:
    assert not first_commit(replace(STATUS, driver=replace(DRIVER, queries={})), OWNER, [])
    assert not first_commit(STATUS, OWNER, [])


def test_a_crash_is_told_with_its_class_and_the_next_attempt() -> None:
    status = replace(
        STATUS,
        phase=Phase.BACKOFF,
        failure_class=FailureClass.DEPENDENCY,
        reason="no broker",
        consecutive_failures=3,
        next_attempt_at=0.0,
    )
    assert "dependency" in ask_again(status)
    assert "no broker" in ask_again(status)
    assert "next attempt at 1970" in ask_again(replace(status, next_attempt_at=5.0))
    assert ask_again(STATUS) == ""


def test_the_progress_line_names_each_query() -> None:
    line = progress_line(replace(STATUS, driver=DRIVER, restarts=2))
    assert "records: batch 3, 12 rows/s" in line
    assert "2 restarts" in line


def test_the_progress_of_an_older_epoch_is_not_shown_as_current() -> None:
    old = replace(STATUS, driver=replace(DRIVER, epoch=6))
    assert "batch" not in progress_line(old)
    assert snapshot(old)["queries"] == {}
    assert snapshot(replace(STATUS, driver=DRIVER))["ui_url"] == "http://127.0.0.1:4040"
