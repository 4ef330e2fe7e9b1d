"""Airflow as the remote control of streams, on a live Airflow with the real supervisor.

Process level: a light driver stands where Spark's would, so that many lives of a stream fit into
minutes. The tests run in the order of the file and hand one DAG run on from the first. Each wait has a
deadline and no test measures time.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from live_airflow import LiveAirflow, Part, wait_healthy

from headgate.airflow.dags import RECONCILE_DAG
from headgate.airflow.reconcile import HEARTBEAT_FILE
from headgate.contract.frozen import ContractStore, FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.local import secrets
from headgate.settings import Settings, load_settings
from headgate.streams.client import SupervisorClient, client_from
from headgate.streams.model import Desired, Phase, StreamStatus

CHECKOUT = Path(__file__).resolve().parents[2]
PIPELINE = "remote-control"
STREAM_DAG = f"stream.{PIPELINE}"
QUALITY_DAG = f"quality.{PIPELINE}"
TASK = "run_stream"
SOON = 120.0  # generous: other tests may share the two cores
SWEPT = 240.0  # a sweep each minute, its start, and the stop

Poll = Callable[..., Any]


@dataclass
class Platform:
    settings: Settings
    airflow: LiveAirflow
    supervisor: Part
    client: SupervisorClient
    poll: Poll
    run_id: str = ""

    def status(self) -> StreamStatus:
        return self.client.status(PIPELINE)

    def drivers(self) -> list[int]:
        """Process ids of living drivers of this test's stream, whoever started them."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if "spark" in command and PIPELINE in command and "headgate.streams.runner" not in command:
                found.append(process.pid)
        return found

    def task(self, task_id: str = TASK) -> dict[str, Any]:
        return self.airflow.task(STREAM_DAG, self.run_id, task_id)

    def wait(self, predicate: Callable[[], Any], seconds: float, what: str) -> Any:
        return self.poll(predicate, seconds, what)

    def wait_task(self, state: str, seconds: float = SOON, task_id: str = TASK) -> None:
        def there() -> bool:
            found = self.task(task_id)["state"]
            assert found == state or found not in ("failed", "upstream_failed"), (
                f"{task_id} is {found}:\n{self.log(task_id)}"
            )
            return bool(found == state)

        self.wait(there, seconds, f"{task_id} is {state}")

    def wait_running(self, generation: int, seconds: float = SOON) -> StreamStatus:
        def there() -> StreamStatus | None:
            status = self.status()
            # An order is a new generation at once, while the driver before it is still being stopped.
            driver = status.driver
            running = status.phase is Phase.RUNNING and status.generation == generation
            own = driver is not None and driver.generation == generation and [driver.pid] == self.drivers()
            return status if running and own else None

        found: StreamStatus = self.wait(there, seconds, f"one driver runs generation {generation}")
        return found

    def wait_stopped(self, seconds: float) -> StreamStatus:
        def there() -> StreamStatus | None:
            status = self.status()
            ended = status.phase is Phase.STOPPED and status.desired is Desired.STOPPED
            return status if ended and not self.drivers() else None

        found: StreamStatus = self.wait(there, seconds, "the stream is stopped and no driver lives")
        return found

    def log(self, task_id: str = TASK) -> str:
        return self.airflow.log(STREAM_DAG, self.run_id, task_id, self.task(task_id)["try_number"])

    def start(self) -> StreamStatus:
        """A new DAG run, up to the deferred task and the running driver."""
        self.run_id = self.airflow.run(STREAM_DAG)
        self.wait_task("deferred", 120.0)
        return self.wait_running(generation=1)

    def clear(self) -> StreamStatus:
        """Clear the stream's task, up to the deferred task and the running driver."""
        generation = self.status().generation + 1
        if self.task()["state"] != "deferred":
            # Airflow may end the run in the same moment, and a task cleared before that is never scheduled.
            run = f"/dags/{STREAM_DAG}/dagRuns/{self.run_id}"
            ended = lambda: self.airflow.call("GET", run)["state"] in ("success", "failed")  # noqa: E731
            self.wait(ended, SOON, "the run has ended")
        self.airflow.clear(STREAM_DAG, self.run_id, TASK)
        status = self.wait_running(generation)
        self.wait(lambda: self.task()["state"] == "deferred", SOON, "the cleared task is deferred")
        return status

    def sweep(self) -> dict[str, Any]:
        """Run the sweep now rather than within a minute; what it has found."""
        run_id = self.airflow.run(RECONCILE_DAG)

        def over() -> bool:
            state = self.airflow.call("GET", f"/dags/{RECONCILE_DAG}/dagRuns/{run_id}")["state"]
            assert state != "failed", self.airflow.log(RECONCILE_DAG, run_id, "sweep")
            return bool(state == "success")

        self.wait(over, SWEPT, "the sweep is over")
        found: dict[str, Any] = json.loads((self.settings.state / HEARTBEAT_FILE).read_text())
        return found


def applied_contract(settings: Settings) -> FrozenContract:
    contract = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": PIPELINE,
            "version": 1,
            "owner": "tests",
            "sources": {
                "lines": {
                    "topic": "remote_control",
                    "columns": [{"name": "value", "type": "string"}],
                }
            },
            "outputs": {"copies": {"sql": "SELECT value FROM lines", "to": [{"delta": "copies"}]}},
            "quality": {
                "every": "1 day",
                "expectations": [
                    {"output": "copies", "expect": "ExpectColumnValuesToNotBeNull", "column": "value"}
                ],
            },
        }
    )
    column = {"name": "value", "type": "string", "nullable": True, "metadata": {}}
    copies = ResolvedOutput(stateful=False, schema={"type": "struct", "fields": [column]})
    frozen = freeze(
        contract,
        topics={"lines": "remote_control"},
        replication=1,
        outputs={"copies": copies},
        env=settings.env,
        headgate_version="test",
    )
    store = ContractStore(settings.state)
    store.put(frozen)
    store.set_applied(frozen, at=time.time(), by="test", file="remote-control.yaml")
    return frozen


def home_of_the_test(home: Path) -> None:
    """The repository's DAG files, and the light driver where `python -m spark` looks first."""
    shutil.copytree(CHECKOUT / "dags", home / "dags")
    (home / "spark").mkdir()
    (home / "spark" / "__init__.py").touch()  # without it the installed package would come first
    shutil.copy(CHECKOUT / "tests" / "helpers" / "light_driver.py", home / "spark" / "__main__.py")


@pytest.fixture(scope="module")
def platform(
    tmp_path_factory: pytest.TempPathFactory,
    private_environ: Callable[[str], dict[str, str]],
    broker: Any,
    poll_until: Poll,
) -> Iterator[Platform]:
    home = tmp_path_factory.mktemp("airflow-home")
    home_of_the_test(home)
    environ = {
        **private_environ("airflow"),
        "HEADGATE_HOME": str(home),
        "HEADGATE_ROOTS_STATE": "var",
        "HEADGATE_KAFKA_BROKERS": broker.bootstrap,
    }
    settings, _ = load_settings(environ=environ)
    secrets.ensure(settings, settings.supervisor.token, secrets.password)
    applied_contract(settings)
    command = [str(Path(sys.executable).with_name("headgate")), "supervisor"]
    supervisor = Part("supervisor", command, {**os.environ, **environ}, home / "supervisor.log")
    airflow = LiveAirflow(settings, environ)
    running = Platform(settings, airflow, supervisor, client_from(settings), poll_until)
    try:
        supervisor.start()
        airflow.start()
        wait_healthy(airflow, 180.0)
        yield running
    finally:
        airflow.stop()
        supervisor.stop()
        running.client.close()
        end_drivers(running)


def end_drivers(platform: Platform) -> None:
    """A driver outlives its supervisor on purpose, so it is ended here, with the runner beside it."""
    for pid in platform.drivers():
        process = psutil.Process(pid)
        family = [process, *process.parents()[:1]]
        for each in family:
            if PIPELINE in each.cmdline():
                each.kill()


def test_a_run_is_deferred_while_exactly_one_driver_lives(platform: Platform) -> None:
    dags = platform.airflow
    listed = lambda: {dag["dag_id"] for dag in dags.call("GET", "/dags")["dags"]}  # noqa: E731
    platform.wait(lambda: {STREAM_DAG, QUALITY_DAG} <= listed(), SOON, "the contract's DAGs are there")
    dags.unpause(STREAM_DAG)
    dags.unpause(QUALITY_DAG)
    status = platform.start()
    assert status.owner is not None
    assert status.owner.label == f"airflow:{STREAM_DAG}/{platform.run_id}/{TASK}"
    for step in ("plan", "apply", "preflight"):
        assert platform.task(step)["state"] == "success"


def test_progress_and_links_are_live_while_the_task_is_deferred(platform: Platform) -> None:
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


def test_the_first_commit_schedules_the_quality_check(platform: Platform) -> None:
    platform.wait_task("success", SOON, "first_commit")

    def by_asset() -> bool:
        runs = platform.airflow.call("GET", f"/dags/{QUALITY_DAG}/dagRuns")["dag_runs"]
        return any(run["run_type"] == "asset_triggered" for run in runs)

    platform.wait(by_asset, SOON, "the quality DAG was started by the asset")
    platform.airflow.pause(QUALITY_DAG)  # its check needs tables, which the light driver does not write


def test_clear_starts_a_new_generation_with_exactly_one_driver(platform: Platform) -> None:
    (before,) = platform.drivers()
    status = platform.clear()
    assert not psutil.pid_exists(before)
    assert platform.task()["try_number"] == 2
    assert status.owner is not None
    assert (status.owner.try_number, status.owner.clear_number) == (2, 1)
    # The old trigger's on_kill comes after the new execute(); it must not have stopped the new driver.
    assert platform.wait_running(status.generation).stopped_by is None


def test_a_restart_of_the_triggerer_touches_nothing(platform: Platform) -> None:
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


def test_a_restart_by_the_command_line_leaves_the_waiting_task_in_charge(platform: Platform) -> None:
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


def test_a_paused_dag_leaves_the_stream_running_and_is_reported(platform: Platform) -> None:
    generation = platform.status().generation
    platform.airflow.pause(STREAM_DAG)
    (found,) = platform.sweep()["found"]
    platform.airflow.unpause(STREAM_DAG)
    assert (found["kind"], found["stream"]) == ("paused", PIPELINE)
    assert platform.wait_running(generation).stopped_by is None


def test_mark_failed_stops_the_stream(platform: Platform) -> None:
    generation = platform.status().generation
    platform.airflow.mark(STREAM_DAG, platform.run_id, TASK, "failed")
    status = platform.wait_stopped(SOON)
    assert status.stopped_by is not None
    assert "failed" in status.stopped_by
    assert not status.stopped_by.startswith("airflow:headgate.reconcile")
    assert status.generation == generation


def test_mark_success_stops_the_stream_even_while_no_triggerer_runs(platform: Platform) -> None:
    platform.clear()
    triggerer = platform.airflow.parts["triggerer"]
    triggerer.kill()
    platform.airflow.mark(STREAM_DAG, platform.run_id, TASK, "success")
    status = platform.wait_stopped(SWEPT)
    triggerer.start()
    assert status.stopped_by is not None
    assert status.stopped_by.startswith("airflow:headgate.reconcile")


def test_a_stop_by_the_command_line_skips_the_task_and_says_who_and_why(platform: Platform) -> None:
    platform.clear()
    platform.client.stop(PIPELINE, actor="cli:ann", reason="disk change", deadline_seconds=30)
    platform.wait_task("skipped", 120.0)
    assert not platform.drivers()
    assert "cli:ann: disk change" in platform.log()


def test_a_parked_stream_fails_the_task_with_the_cause(platform: Platform) -> None:
    platform.clear()
    trip = platform.settings.state / "streams" / PIPELINE / "fail"
    trip.touch()
    platform.wait(lambda: platform.task()["state"] == "failed", SOON, "the task has failed")
    log = platform.log()
    trip.unlink()
    assert "data_loss" in log
    assert f"headgate restart {PIPELINE}" in log
