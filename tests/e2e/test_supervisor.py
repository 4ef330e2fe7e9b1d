"""The supervisor with real processes: a stand-in driver, real kills, real sockets, a real store."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervised import ALICE, HASH, Installation, ends, in_phase, start, until

from headgate.errors import RefusedError, SupervisorUnavailable
from headgate.streams.model import Desired, FailureClass, Owner, Phase

AIRFLOW = Owner(kind="airflow", dag_id="stream.s", run_id="r1", task_id="run", try_number=1)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(tmp_path)
    try:
        yield installation
    finally:
        installation.clear()


def test_a_stream_starts_runs_and_stops_after_its_batch(place: Installation) -> None:
    client = place.supervise()
    assert start(client, "s").generation == 1
    running = in_phase(client, "s", Phase.RUNNING)
    assert (running.epoch, running.driver_alive, running.owner) == (1, True, ALICE)
    until("some commits", lambda: len(place.commits("s")) > 3)

    client.stop("s", actor="cli:bob", reason="maintenance")
    stopped = in_phase(client, "s", Phase.STOPPED)
    assert (stopped.stopped_how, stopped.stopped_by) == ("committed", "cli:bob: maintenance")
    assert not stopped.driver_alive
    assert place.members("s") == []
    assert [event.to_phase for event in client.events("s") if event.kind == "transition"] == [
        "starting",
        "running",
        "stopping",
        "stopped",
    ]


def test_the_same_order_twice_is_one_generation_and_one_driver(place: Installation) -> None:
    client = place.supervise()
    first = start(client, "s", "once")
    again = start(client, "s", "once")
    assert (first.generation, again.generation) == (1, 1)
    in_phase(client, "s", Phase.RUNNING)
    assert start(client, "s", "once").generation == 1
    assert len(place.starts("s")) == 1


def test_a_repeated_order_is_refused_when_another_owner_has_ordered_since(place: Installation) -> None:
    client = place.supervise()
    start(client, "s", "alice-1")
    start(client, "s", "airflow-1", AIRFLOW)
    with pytest.raises(RefusedError, match="generation 2"):
        start(client, "s", "alice-1")


def test_a_new_generation_stops_the_old_driver_before_its_own_starts(place: Installation) -> None:
    place.behave("s", batch=0.3)
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    until("a commit", lambda: place.commits("s"))
    start(client, "s", "k2", AIRFLOW)
    second = in_phase(client, "s", Phase.RUNNING, epoch=2)
    assert (second.generation, second.owner) == (2, AIRFLOW)
    until("a commit of epoch 2", lambda: place.commits("s")[-1][1] == 2)
    batches = [batch for batch, _ in place.commits("s")]
    epochs = [epoch for _, epoch in place.commits("s")]
    assert batches == sorted(set(batches)), "each batch is committed once and in order"
    assert epochs == sorted(epochs), "no commit of the old driver after one of the new"


def test_a_killed_supervisor_comes_back_and_adopts_the_running_driver(place: Installation) -> None:
    client = place.supervise()
    start(client, "s")
    before = in_phase(client, "s", Phase.RUNNING)
    ((_, _, pid),) = place.starts("s")
    place.kill_supervisor()
    committed = len(place.commits("s"))
    until("commits without a supervisor", lambda: len(place.commits("s")) > committed + 3)

    client = place.supervise()
    after = in_phase(client, "s", Phase.RUNNING)
    assert (after.epoch, after.generation, after.restarts) == (before.epoch, before.generation, 0)
    assert [start[2] for start in place.starts("s")] == [pid]
    assert "adopted" in [event.kind for event in client.events("s")]
    client.stop("s", actor="cli:alice")
    assert in_phase(client, "s", Phase.STOPPED).stopped_how == "committed"


def test_sigterm_to_the_supervisor_leaves_the_drivers_running(place: Installation) -> None:
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    assert place.kill_supervisor(how=signal.SIGTERM) == 0
    committed = len(place.commits("s"))
    until("commits without a supervisor", lambda: len(place.commits("s")) > committed + 3)


def test_a_driver_that_died_while_the_supervisor_was_away_is_restarted_by_its_exit_note(
    place: Installation,
) -> None:
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    place.kill_supervisor()
    ((_, _, pid),) = place.starts("s")
    os.kill(pid, signal.SIGKILL)
    until("the exit note", (place.folder("s") / "exit-1.json").exists)
    client = place.supervise()
    again = in_phase(client, "s", Phase.RUNNING, epoch=2)
    assert (again.restarts, again.generation) == (1, 1)
    failed = next(event for event in client.events("s") if event.to_phase == "backoff")
    assert "SIGKILL" in failed.detail


def test_a_killed_driver_is_restarted_with_a_new_epoch_and_nothing_of_it_survives(
    place: Installation,
) -> None:
    place.behave("s", child=True)
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    until("driver and child", lambda: len(place.members("s")) == 2)
    old = place.members("s")
    until("a commit", lambda: place.commits("s"))
    ((_, _, pid),) = place.starts("s")
    os.kill(pid, signal.SIGKILL)
    again = in_phase(client, "s", Phase.RUNNING, epoch=2)
    assert (again.restarts, again.generation, again.owner) == (1, 1, ALICE)
    assert all(ends(process.pid) for process in old), "the child in a session of its own is dead too"


def test_a_driver_whose_runner_was_killed_runs_on_and_is_still_supervised(place: Installation) -> None:
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    os.kill(place.runner("s"), signal.SIGKILL)
    committed = len(place.commits("s"))
    until("commits without a runner", lambda: len(place.commits("s")) > committed + 3)
    assert client.status("s").phase is Phase.RUNNING
    ((_, _, pid),) = place.starts("s")
    os.kill(pid, signal.SIGKILL)
    assert in_phase(client, "s", Phase.RUNNING, epoch=2).restarts == 1


def test_a_crash_loop_is_braked_and_parked_until_somebody_orders(place: Installation) -> None:
    place.policy |= {"brake_failures": 3, "unknown_limit": 3, "backoff_base": 0.05}
    place.behave("s", mode="crash")
    client = place.supervise()
    start(client, "s")
    parked = in_phase(client, "s", Phase.PARKED)
    assert parked.consecutive_failures == 3
    assert len(place.starts("s")) == 3
    assert parked.desired is Desired.RUNNING

    place.behave("s", mode="run")
    restarted = client.restart("s", actor="cli:bob", reason="fixed", idempotency_key="r1")
    assert restarted.phase is Phase.STARTING, "an accepted order is never answered with the old phase"
    running = in_phase(client, "s", Phase.RUNNING)
    assert (running.generation, running.consecutive_failures) == (2, 0)
    assert running.owner == Owner(kind="cli", user="bob"), "nobody waits for a parked stream"


@pytest.mark.parametrize("failure", [FailureClass.DATA_LOSS, FailureClass.CHECKPOINT])
def test_a_failure_that_a_restart_cannot_help_parks_at_once(
    place: Installation, failure: FailureClass
) -> None:
    place.behave("s", mode="crash", failure_class=str(failure))
    client = place.supervise()
    start(client, "s")
    parked = in_phase(client, "s", Phase.PARKED)
    assert (parked.failure_class, len(place.starts("s"))) == (failure, 1)
    assert "TOLD" in parked.reason


def test_a_dependency_that_is_away_is_waited_for_without_a_brake(place: Installation) -> None:
    place.policy |= {"brake_failures": 2, "backoff_base": 0.05, "backoff_factor": 1.1}
    place.behave("s", mode="crash", failure_class="dependency")
    client = place.supervise()
    start(client, "s")
    until("many attempts", lambda: len(place.starts("s")) >= 6)
    assert client.status("s").phase is not Phase.PARKED
    place.behave("s", mode="run")
    in_phase(client, "s", Phase.RUNNING)


def test_a_driver_deaf_to_sigterm_is_killed_at_the_deadline_and_that_is_said(place: Installation) -> None:
    place.behave("s", mode="deaf", child=True)
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    client.stop("s", actor="cli:alice", deadline_seconds=0.5)
    stopped = in_phase(client, "s", Phase.STOPPED)
    assert stopped.stopped_how == "killed"
    assert place.members("s") == []


def test_a_stopped_process_is_killed_all_the_same(place: Installation) -> None:
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    ((_, _, pid),) = place.starts("s")
    os.kill(pid, signal.SIGSTOP)
    client.stop("s", actor="cli:alice", deadline_seconds=0.5)
    assert in_phase(client, "s", Phase.STOPPED).stopped_how == "killed"
    assert ends(pid)


def test_a_frozen_driver_is_replaced_only_after_it_is_dead(place: Installation) -> None:
    place.policy |= {"stop_deadline": 1.0}
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    ((_, _, pid),) = place.starts("s")
    os.kill(pid, signal.SIGSTOP)
    start(client, "s", "k2")
    in_phase(client, "s", Phase.RUNNING, epoch=2)
    assert ends(pid)


def test_a_stop_of_another_owner_is_refused_with_the_holder_named(place: Installation) -> None:
    client = place.supervise()
    start(client, "s", "a1", AIRFLOW)
    in_phase(client, "s", Phase.RUNNING)
    older = Owner(kind="airflow", dag_id="stream.s", run_id="r0", task_id="run", try_number=1)
    with pytest.raises(RefusedError, match=r"airflow:stream\.s/r1/run"):
        client.stop("s", actor="airflow:stream.s/r0/run", owner=older)
    assert client.status("s").desired is Desired.RUNNING
    restarted = client.restart("s", actor="cli:bob", reason="try", idempotency_key="r1")
    assert (restarted.owner, restarted.generation) == (AIRFLOW, 2)
    in_phase(client, "s", Phase.RUNNING, epoch=2)
    client.stop("s", actor="airflow:stream.s/r1/run", owner=AIRFLOW, reason="marked failed")
    in_phase(client, "s", Phase.STOPPED)


def test_a_suspended_platform_starts_again_what_was_wanted(place: Installation) -> None:
    client = place.supervise()
    for name in ("a", "b"):
        start(client, name)
        in_phase(client, name, Phase.RUNNING)
    client.stop("b", actor="cli:alice")
    in_phase(client, "b", Phase.STOPPED)
    client.suspend("cli:alice")
    suspended = in_phase(client, "a", Phase.STOPPED)
    assert (suspended.desired, suspended.generation) == (Desired.RUNNING, 1)
    assert "suspended" in suspended.conditions
    client.resume("cli:alice")
    assert in_phase(client, "a", Phase.RUNNING, epoch=2).generation == 1
    assert client.status("b").phase is Phase.STOPPED


def test_a_new_supervisor_ends_a_suspension(place: Installation) -> None:
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    client.suspend("cli:alice")
    in_phase(client, "s", Phase.STOPPED)
    place.kill_supervisor(how=signal.SIGTERM)
    client = place.supervise()
    in_phase(client, "s", Phase.RUNNING, epoch=2)


def test_of_two_supervisors_on_one_store_one_acts_and_the_other_takes_over(place: Installation) -> None:
    first = place.supervise()
    start(first, "s")
    in_phase(first, "s", Phase.RUNNING)
    second = place.supervise()
    assert (first.health()["role"], second.health()["role"]) == ("leader", "standby")
    with pytest.raises(SupervisorUnavailable, match="standby"):
        start(second, "s", "k2")
    place.kill_supervisor(0)
    until("the standby leads", lambda: second.health()["role"] == "leader")
    adopted = in_phase(second, "s", Phase.RUNNING)
    assert (adopted.epoch, len(place.starts("s"))) == (1, 1)


def test_a_frozen_leader_is_killed_before_its_lease_is_taken(place: Installation) -> None:
    first = place.supervise()
    start(first, "s")
    in_phase(first, "s", Phase.RUNNING)
    second = place.supervise()
    os.kill(place.supervisors[0].pid, signal.SIGSTOP)
    until("the standby leads", lambda: second.health()["role"] == "leader")
    until("the frozen one is dead", lambda: place.supervisors[0].poll() == -signal.SIGKILL)
    start(second, "s", "k2")
    in_phase(second, "s", Phase.RUNNING, epoch=2)
    assert [epoch for epoch, _, _ in place.starts("s")] == [1, 2]


def test_a_damaged_report_is_shown_and_the_stream_runs_on(place: Installation) -> None:
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    ((_, _, pid),) = place.starts("s")
    os.kill(pid, signal.SIGSTOP)
    (place.folder("s") / "status.json").write_text("{")
    until("the condition", lambda: "report_unreadable" in client.status("s").conditions)
    assert client.status("s").phase is Phase.RUNNING
    os.kill(pid, signal.SIGCONT)
    until("the condition is gone", lambda: "report_unreadable" not in client.status("s").conditions)
    assert client.status("s").epoch == 1


def test_an_epoch_claimed_by_a_stranger_is_not_restarted_over_but_taken_over_by_an_order(
    place: Installation,
) -> None:
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    owners = place.state / "checkpoints" / "s" / "_owner"
    owners.mkdir(parents=True)
    (owners / "7").touch()
    ((_, _, pid),) = place.starts("s")
    os.kill(pid, signal.SIGKILL)
    parked = in_phase(client, "s", Phase.PARKED)
    assert parked.failure_class is FailureClass.FENCED
    start(client, "s", "take over")
    assert in_phase(client, "s", Phase.RUNNING).epoch == 8


def test_an_intent_without_a_launch_is_carried_out_by_the_next_supervisor(place: Installation) -> None:
    from headgate.settings import load_settings
    from headgate.streams.launch import Launcher
    from headgate.streams.machine import decide
    from headgate.streams.policy import Policy
    from headgate.streams.service import orders
    from headgate.streams.statements import Order
    from headgate.streams.steps import Life, Seen
    from headgate.streams.store import StateStore

    settings, _ = load_settings(place.home, {})
    store = StateStore(settings.store_url)
    record = store.order(
        "s",
        Order(
            "ensure",
            lambda old: orders.ensure(
                old, stream="s", pipeline="s", contract_hash=HASH, owner=ALICE, now=1.0
            ),
        ),
    )
    step = decide(record, Seen(Life.NONE), now=2.0, policy=Policy(), jitter=0.0)
    assert step is not None
    begun = Launcher(settings).plan(step.record, 2.0)
    store.save(record, step.record, begun=begun)
    store.close()

    client = place.supervise()
    running = in_phase(client, "s", Phase.RUNNING)
    assert (running.epoch, running.restarts) == (1, 0)
    assert place.members("s") != []


def test_preflight_looks_before_every_start_and_what_it_refuses_is_parked(place: Installation) -> None:
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    place.preflight("s", failure="data_loss", text="retention took 4 records. Choices: (1) …")
    ((_, _, pid),) = place.starts("s")
    os.kill(pid, signal.SIGKILL)
    parked = in_phase(client, "s", Phase.PARKED)
    assert parked.failure_class is FailureClass.DATA_LOSS
    assert "retention took 4 records" in parked.reason
    assert len(place.starts("s")) == 1, "the restart after a crash did not happen"

    ordered = client.restart("s", actor="cli:bob", reason="try", idempotency_key="r1")
    refused = until("refused again", lambda: (s := client.status("s")).phase is Phase.PARKED and s)
    assert (refused.generation, refused.epoch) == (ordered.generation, 1)
    place.preflight("s")
    client.restart("s", actor="cli:bob", reason="repaired", idempotency_key="r2")
    in_phase(client, "s", Phase.RUNNING, epoch=2)

    client.suspend("cli:alice")
    in_phase(client, "s", Phase.STOPPED)
    place.preflight("s", failure="checkpoint", text="a file is cut")
    client.resume("cli:alice")
    assert in_phase(client, "s", Phase.PARKED).failure_class is FailureClass.CHECKPOINT


def test_a_preflight_that_gets_no_answer_holds_up_its_own_stream_alone(place: Installation) -> None:
    place.policy |= {"backoff_base": 0.05, "backoff_factor": 1.2}
    place.preflight("s", hangs=True)
    client = place.supervise()
    start(client, "s")
    start(client, "t", "k2")
    in_phase(client, "t", Phase.RUNNING)
    waiting = client.status("s")
    assert (waiting.phase, waiting.epoch) == (Phase.STARTING, 0)
    assert "preflight looks first" in waiting.reason

    place.preflight("s", failure="dependency", text="Kafka does not answer")
    until("several looks", lambda: len((place.folder("s") / "preflights").read_text().split()) > 4)
    waiting = client.status("s")
    assert "Kafka does not answer" in waiting.reason
    assert (waiting.phase, waiting.failure_class) == (Phase.BACKOFF, FailureClass.DEPENDENCY)
    place.kill_supervisor()
    place.preflight("s")
    client = place.supervise()
    started = in_phase(client, "s", Phase.RUNNING)
    assert (started.epoch, started.restarts, started.generation) == (1, 0, 1)


def test_a_stream_is_stable_then_stalled_then_restarted_and_stable_again(place: Installation) -> None:
    place.policy |= {"stall_floor": 0.5, "stall_restart": 1.0, "backoff_base": 0.05}
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    until("stable", lambda: "stable" in client.status("s").conditions)
    place.behave("s", mode="stall")
    until("stalled", lambda: "stalled" in client.status("s").conditions)
    assert "stable" not in client.status("s").conditions
    again = in_phase(client, "s", Phase.RUNNING, epoch=2)
    assert again.restarts == 1
    told = [event.detail for event in client.events("s") if event.kind == "condition"]
    assert any(text.startswith("stalled: query records has shown no progress") for text in told)
    unhealthy = next(event for event in client.events("s") if event.cause == "unhealthy")
    assert "stalled: query records" in unhealthy.detail
    place.behave("s", mode="run")
    until("stable", lambda: "stable" in client.status("s").conditions)


def test_a_retired_stream_ends_and_keeps_what_it_wrote(place: Installation) -> None:
    client = place.supervise()
    start(client, "s")
    in_phase(client, "s", Phase.RUNNING)
    until("a commit", lambda: place.commits("s"))
    client.retire("s", actor="cli:bob", reason="replaced by t")
    retired = in_phase(client, "s", Phase.RETIRED)
    assert (retired.desired, retired.driver_alive) == (Desired.RETIRED, False)
    assert retired.stopped_by == "cli:bob: replaced by t"
    for order in (
        lambda: start(client, "s", "k2"),
        lambda: client.restart("s", actor="cli:bob", idempotency_key="r1"),
    ):
        with pytest.raises(RefusedError, match="is retired"):
            order()
    place.kill_supervisor()
    client = place.supervise()
    assert client.status("s").phase is Phase.RETIRED
    assert len(place.starts("s")) == 1
    assert place.commits("s")


def test_a_taken_port_is_named(place: Installation) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = place.launch(port)
        assert process.wait(60) != 0
    assert f"cannot listen on 127.0.0.1:{port}" in place.journal()
