"""Airflow's parts die, freeze and come back, two triggerers and the real supervisor: streams do not notice.

One Airflow serves the whole file, and one DAG run is handed on from test to test, so their order counts.
The driver is a light one that commits a batch each second. No test measures time: an outage lasts for a
number of committed batches, which is what shows that the stream went on. Airflow's database is a Postgres, as
teams run it, so that it can be away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest
from live_airflow import Part, RestError, wait_healthy
from postgres_server import Postgres, needs_postgres, postgres_server
from remote_control import PIPELINE, SOON, STREAM_DAG, SWEPT, TASK, RemoteControl, remote_control

from headgate.streams import proc
from headgate.streams.model import StreamStatus

OUTAGE = 60  # batches: longer than the 50 s after which a running task of Airflow kills its own work

Poll = Callable[..., Any]

pytestmark = needs_postgres


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def platform(
    tmp_path_factory: pytest.TempPathFactory,
    private_environ: Callable[[str], dict[str, str]],
    broker: Any,
    database: Postgres,
    poll_until: Poll,
) -> Iterator[RemoteControl]:
    home = tmp_path_factory.mktemp("airflow-outages")
    environ = {**private_environ("airflow-outages"), "HEADGATE_AIRFLOW_DATABASE": database.fresh()}
    with remote_control(home, environ, broker.bootstrap, poll_until, triggerers=2) as running:
        running.wait_dags()
        running.airflow.unpause(STREAM_DAG)
        running.start()
        running.wait_task("success", SOON, "first_commit")
        yield running


def watcher(platform: RemoteControl) -> Part:
    """The triggerer that watches the stream: the one that talks to the supervisor."""
    port = platform.settings.supervisor.port

    def talks(part: Part) -> bool:
        assert part.process is not None
        tree = psutil.Process(part.process.pid)
        each = [tree, *tree.children(recursive=True)]
        return any(c.raddr and c.raddr.port == port for p in each for c in p.net_connections("tcp"))

    def found() -> Part | None:
        talking = [part for part in platform.airflow.triggerers if part.process and talks(part)]
        return talking[0] if len(talking) == 1 else None

    part: Part = platform.wait(found, SOON, "one triggerer watches the stream")
    return part


def wait_batches(platform: RemoteControl, count: int) -> int:
    """Until the driver has committed so many more; the newest batch."""
    until = platform.batch() + count
    platform.wait(lambda: platform.batch() >= until, 10.0 * count + SOON, f"batch {until} is committed")
    return platform.batch()


def revived(platform: RemoteControl) -> bool:
    """Start again what has ended, as the process manager of `headgate up` does; whether all is healthy."""
    for part in platform.airflow.parts.values():
        if part.process is not None and part.process.poll() is not None:
            part.start()
    found = platform.airflow.health()
    return len(found) >= 4 and set(found.values()) == {"healthy"}


def identity(status: StreamStatus) -> tuple[object, ...]:
    """What an outage must not change: generation, epoch, process and owner."""
    assert status.driver is not None
    return status.generation, status.epoch, status.driver.pid, status.restarts, status.owner


def assert_untouched(platform: RemoteControl, before: StreamStatus, batch: int) -> None:
    """The same driver, further on, with its task deferred in the same try."""
    after = platform.status()
    assert identity(after) == identity(before)
    assert after.stopped_by is None
    assert platform.drivers() == [identity(before)[2]]
    assert platform.batch() >= batch
    task = platform.task()
    assert before.owner is not None
    assert (task["state"], task["try_number"]) == ("deferred", before.owner.try_number)


def test_a_frozen_triggerer_that_wakes_stops_no_stream(platform: RemoteControl) -> None:
    """On waking it calls on_kill on the triggers that its peer has taken over, without any user's action."""
    before, batch = platform.status(), platform.batch()
    frozen = watcher(platform)
    frozen.freeze()
    try:
        batch = wait_batches(platform, 50)
        platform.wait_watched(batch)  # only the peer can show it
    finally:
        frozen.thaw()
    platform.wait(lambda: "goes on: its task instance is deferred" in platform.log(), SOON, "on_kill has run")
    batch = wait_batches(platform, 10)
    assert_untouched(platform, before, batch)


def test_all_of_airflow_but_one_triggerer_is_killed_and_the_stream_does_not_notice(
    platform: RemoteControl,
) -> None:
    before = platform.status()
    dead = [platform.airflow.parts[name] for name in ("api-server", "scheduler", "dag-processor")]
    killed = watcher(platform)
    for part in (killed, *dead):
        part.kill()
    batch = wait_batches(platform, OUTAGE)
    assert identity(platform.status()) == identity(before)
    for part in dead:
        part.start()
    wait_healthy(platform.airflow, SWEPT)
    platform.wait_watched(batch)  # the triggerer that is left has taken over
    assert_untouched(platform, before, batch)
    killed.start()


def test_row_13_an_order_given_while_airflows_database_goes_away_is_carried_out_once(
    platform: RemoteControl, database: Postgres
) -> None:
    """What Airflow had answered for is done when it can; what it refused was not done at all."""
    before = platform.status()
    assert before.owner is not None
    platform.airflow.clear(STREAM_DAG, platform.run_id, TASK)  # answered: it is written down
    database.stop()
    batch = wait_batches(platform, 20)
    with pytest.raises((RestError, httpx.HTTPError)):
        platform.airflow.clear(STREAM_DAG, platform.run_id, TASK)
    assert platform.status().generation <= before.generation + 1
    database.start()

    def carried_out() -> bool:
        # A scheduler that ends waits for its tasks first: to Airflow it may be healthy for as long.
        return revived(platform) and platform.status().generation > before.generation

    platform.wait(carried_out, SWEPT, "all of Airflow is back, and has ordered what it was asked for")
    platform.wait_running(before.generation + 1, SWEPT)
    platform.wait(lambda: platform.task()["state"] == "deferred", SWEPT, "the cleared task is deferred")
    batch = wait_batches(platform, 20)
    platform.wait_watched(batch)
    after = platform.status()
    assert after.generation == before.generation + 1, "carried out once"
    assert after.stopped_by is None
    assert platform.drivers() == [identity(after)[2]]


def test_a_restart_by_the_command_line_is_followed_and_clear_then_replaces_the_driver(
    platform: RemoteControl,
) -> None:
    generation = platform.status().generation
    platform.client.restart(PIPELINE, actor="cli:ann", reason="new heap", idempotency_key="outages-1")
    restarted = platform.wait_running(generation + 1)
    assert restarted.owner is not None
    assert restarted.owner.run_id == platform.run_id
    (pid,) = platform.drivers()
    cleared = platform.clear()
    assert cleared.generation == generation + 2
    assert proc.start_ticks(pid) is None
    assert len(platform.drivers()) == 1


def test_after_every_outage_mark_failed_still_stops_the_stream(platform: RemoteControl) -> None:
    watcher(platform)
    platform.airflow.mark(STREAM_DAG, platform.run_id, "run_stream", "failed")
    status = platform.wait_stopped(SOON)
    assert status.stopped_by is not None
    assert "failed" in status.stopped_by
    assert not status.stopped_by.startswith("airflow:headgate.reconcile")


def test_a_task_that_is_cleared_while_no_triggerer_runs_has_one_new_driver(platform: RemoteControl) -> None:
    generation = platform.clear().generation
    (pid,) = platform.drivers()
    for part in platform.airflow.triggerers:
        part.kill()
    cleared = platform.clear()
    assert cleared.generation == generation + 1
    assert proc.start_ticks(pid) is None
    assert len(platform.drivers()) == 1


def test_a_run_that_is_marked_and_deleted_while_no_triggerer_runs_is_swept(platform: RemoteControl) -> None:
    with pytest.raises(RestError, match="409"):
        platform.airflow.delete_run(STREAM_DAG, platform.run_id)
    platform.airflow.mark_run(STREAM_DAG, platform.run_id, "failed")
    platform.airflow.delete_run(STREAM_DAG, platform.run_id)
    status = platform.wait_stopped(SWEPT)
    assert status.stopped_by is not None
    assert status.stopped_by.startswith("airflow:headgate.reconcile")
    for part in platform.airflow.triggerers:
        part.start()


def test_a_run_that_is_marked_a_success_stops_the_stream(platform: RemoteControl) -> None:
    generation = platform.status().generation
    platform.start(generation + 1)
    watcher(platform)
    platform.airflow.mark_run(STREAM_DAG, platform.run_id, "success")
    status = platform.wait_stopped(SOON)
    assert status.stopped_by is not None
    assert "success" in status.stopped_by
