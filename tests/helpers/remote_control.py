"""A stream under a live Airflow and the real supervisor, with a light driver where Spark's would be.

`RemoteControl` is what the tests of Airflow hold: the clicks of a person, the stream as the supervisor
sees it, and the processes that really live.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from live_airflow import LiveAirflow, Part, wait_healthy

from headgate.airflow.dags import RECONCILE_DAG
from headgate.airflow.reconcile import HEARTBEAT_FILE
from headgate.contract.frozen import ContractStore, FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.local import secrets
from headgate.settings import Settings, load_settings
from headgate.streams import proc, processes
from headgate.streams.client import SupervisorClient, client_from
from headgate.streams.model import Desired, Phase, StreamStatus

__all__ = [
    "OPERATE_DAG",
    "PIPELINE",
    "QUALITY_DAG",
    "SOON",
    "STREAM_DAG",
    "SWEPT",
    "TASK",
    "RemoteControl",
    "remote_control",
]

CHECKOUT = Path(__file__).resolve().parents[2]
PIPELINE = "remote-control"
STREAM_DAG = f"stream.{PIPELINE}"
QUALITY_DAG = f"quality.{PIPELINE}"
OPERATE_DAG = f"operate.{PIPELINE}"
TASK = "run_stream"
SOON = 120.0  # generous: other tests may share the two cores
SWEPT = 240.0  # a sweep each minute, its start, and the stop

Poll = Callable[..., Any]


@dataclass
class RemoteControl:
    settings: Settings
    airflow: LiveAirflow
    supervisor: Part
    client: SupervisorClient
    poll: Poll
    run_id: str = ""

    def status(self) -> StreamStatus:
        return self.client.status(PIPELINE)

    def drivers(self) -> list[int]:
        """Process ids of living drivers of this test's stream, whoever started them; not those of another
        run of these tests on the same machine."""
        own = processes.marks_of(self.settings.state / "streams" / PIPELINE)
        found = []
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            driver = "spark" in command and PIPELINE in command and proc.RUNNER_MODULE not in command
            if driver and (proc.nonce_of(process.pid) or "").startswith(own):
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

    def wait_dags(self) -> None:
        """Until the dag-processor has seen the contract's DAGs."""

        def listed() -> bool:
            found = {dag["dag_id"] for dag in self.airflow.call("GET", "/dags")["dags"]}
            return {STREAM_DAG, QUALITY_DAG, OPERATE_DAG} <= found

        self.wait(listed, SOON, "the contract's DAGs are there")

    def start(self, generation: int = 1) -> StreamStatus:
        """A new DAG run, up to the deferred task and the running driver."""
        self.run_id = self.airflow.run(STREAM_DAG)
        self.wait_task("deferred", 120.0)
        return self.wait_running(generation)

    def clear(self) -> StreamStatus:
        """Clear the stream's task, up to the deferred task and the running driver."""
        generation = self.status().generation + 1
        if self.task()["state"] != "deferred":
            # Airflow may end the run in the same moment, and a task cleared before that is never scheduled.
            ended = lambda: self.airflow.run_state(STREAM_DAG, self.run_id) in ("success", "failed")  # noqa: E731
            self.wait(ended, SOON, "the run has ended")
        self.airflow.clear(STREAM_DAG, self.run_id, TASK)
        status = self.wait_running(generation)
        self.wait(lambda: self.task()["state"] == "deferred", SOON, "the cleared task is deferred")
        return status

    def batch(self) -> int:
        """The newest batch of the driver that lives."""
        driver = self.status().driver
        return driver.queries["records"].batch_id if driver and driver.queries else -1

    def wait_watched(self, batch: int) -> None:
        """Until a trigger has shown a batch after this one, which it can only do while it runs."""

        def shown() -> bool:
            found = self.airflow.xcom(STREAM_DAG, self.run_id, TASK, "progress")
            return bool(found["queries"] and found["queries"]["records"]["batch"] > batch)

        self.wait(shown, SWEPT, f"a trigger has shown a batch after {batch}")

    def sweep(self) -> dict[str, Any]:
        """Run the sweep now rather than within a minute; what it has found."""
        run_id = self.airflow.run(RECONCILE_DAG)

        def over() -> bool:
            state = self.airflow.run_state(RECONCILE_DAG, run_id)
            assert state != "failed", self.airflow.log(RECONCILE_DAG, run_id, "sweep")
            return bool(state == "success")

        self.wait(over, SWEPT, "the sweep is over")
        found: dict[str, Any] = json.loads((self.settings.state / HEARTBEAT_FILE).read_text())
        return found


def _applied_contract(settings: Settings) -> FrozenContract:
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


def _home_of_the_test(home: Path) -> None:
    """The repository's DAG files, and the light driver where `python -m spark` looks first."""
    shutil.copytree(CHECKOUT / "dags", home / "dags")
    (home / "spark").mkdir()
    (home / "spark" / "__init__.py").touch()  # without it the installed package would come first
    shutil.copy(CHECKOUT / "tests" / "helpers" / "light_driver.py", home / "spark" / "__main__.py")


@contextmanager
def remote_control(
    home: Path, environ: dict[str, str], brokers: str, poll: Poll, triggerers: int = 1
) -> Iterator[RemoteControl]:
    """Supervisor and Airflow, up and healthy; everything that they started is ended afterwards."""
    _home_of_the_test(home)
    environ = {
        **environ,
        "HEADGATE_HOME": str(home),
        "HEADGATE_ROOTS_STATE": "var",
        "HEADGATE_KAFKA_BROKERS": brokers,
    }
    settings, _ = load_settings(environ=environ)
    secrets.ensure(settings, settings.supervisor.token, secrets.password)
    _applied_contract(settings)
    command = [str(Path(sys.executable).with_name("headgate")), "supervisor"]
    supervisor = Part("supervisor", command, {**os.environ, **environ}, home / "supervisor.log")
    airflow = LiveAirflow(settings, environ, triggerers)
    running = RemoteControl(settings, airflow, supervisor, client_from(settings), poll)
    try:
        supervisor.start()
        airflow.start()
        wait_healthy(airflow, 180.0)
        yield running
    finally:
        for part in airflow.triggerers:
            part.thaw()
        airflow.stop()
        supervisor.stop()
        running.client.close()
        _end_drivers(running)


def _end_drivers(platform: RemoteControl) -> None:
    """A driver outlives its supervisor on purpose, so it is ended here, with the runner beside it."""
    for pid in platform.drivers():
        process = psutil.Process(pid)
        family = [process, *process.parents()[:1]]
        for each in family:
            if PIPELINE in each.cmdline():
                each.kill()
