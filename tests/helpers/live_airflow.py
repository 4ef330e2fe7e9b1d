"""A real Airflow for tests: each part a process of its own, which a test can stop, freeze and start."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx

from headgate.local.airflow import AirflowHome, executable, migrate, prepare
from headgate.settings import Settings

__all__ = ["LiveAirflow", "Part", "RestError", "wait_healthy"]

STOP_SECONDS = 30.0
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")


class RestError(Exception):
    """Airflow answered, and the answer was an error."""


class Part:
    """One process of the platform, with its own session so that what it forks ends with it."""

    def __init__(self, name: str, command: list[str], environ: Mapping[str, str], log: Path) -> None:
        self.name, self.command, self.environ, self.log = name, command, dict(environ), log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environ,
                start_new_session=True,
            )

    def stop(self) -> None:
        """SIGTERM to the process, as a process manager would; then whatever is left of its session."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def freeze(self) -> None:
        """SIGSTOP to all of its session, as a suspended machine would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def freeze_alone(self) -> None:
        """SIGSTOP to the process without its children: busy elsewhere for as long as the test says."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGCONT)

    def tail(self, lines: int = 30) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class LiveAirflow:
    """Airflow as `headgate up` configures it, and the REST calls that stand for a person's clicks."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], triggerers: int = 1) -> None:
        self.settings = settings
        self.home: AirflowHome = prepare(settings)
        self.environ = {**os.environ, **environ, **self.home.environ}
        self.parts = {
            name: Part(name, [executable(), name], self.environ, self.home.folder / f"{name}.log")
            for name in PARTS
        }
        for number in range(2, triggerers + 1):
            # As `headgate up` does it: a port of its own for the logs of each further triggerer.
            port = settings.local.airflow_trigger_log_port + number - 1
            environ = {**self.environ, "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port)}
            name = f"triggerer-{number}"
            self.parts[name] = Part(
                name, [executable(), "triggerer"], environ, self.home.folder / f"{name}.log"
            )
        self._token = ""

    @property
    def triggerers(self) -> list[Part]:
        return [part for name, part in self.parts.items() if name.startswith("triggerer")]

    def start(self, *names: str) -> None:
        """Migrate the database and start the parts of these names, all without one."""
        migrate(self.home, self.environ)
        for name in names or self.parts:
            self.parts[name].start()

    def stop(self) -> None:
        for part in reversed(self.parts.values()):
            part.stop()

    def freeze_scheduler_alone(self) -> None:
        """Between two of its transactions: one that is open would hold up every writer of SQLite's file."""
        scheduler = self.parts["scheduler"]
        while True:
            scheduler.freeze_alone()
            if not self._somebody_writes():
                return
            scheduler.thaw()
            time.sleep(0.1)

    def _somebody_writes(self) -> bool:
        assert self.home.sqlite is not None
        with closing(sqlite3.connect(self.home.sqlite, timeout=1.0, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            database.execute("ROLLBACK")
        return False

    def health(self) -> dict[str, str]:
        """Each part's status by name; raises while the API server does not answer."""
        answer = (
            httpx.get(f"{self.home.url}/api/v2/monitor/health", timeout=5.0, trust_env=False)
            .raise_for_status()
            .json()
        )
        return {name: part["status"] for name, part in answer.items() if part["status"]}

    def token(self) -> str:
        if not self._token:
            login = {
                "username": self.settings.airflow.username,
                "password": self.settings.secret(self.settings.airflow.password),
            }
            token = httpx.post(f"{self.home.url}/auth/token", json=login, timeout=60.0, trust_env=False)
            self._token = token.raise_for_status().json()["access_token"]
        return self._token

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = httpx.request(
            method,
            f"{self.home.url}/api/v2{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.token()}"},
            timeout=120.0,
            trust_env=False,
        )
        if not answer.is_success:
            # Not an assertion: a test that polls goes on, as what it asks for may come.
            raise RestError(f"{method} {path}: {answer.status_code} {answer.text[:1000]}")
        return answer.json() if answer.content else None

    def unpause(self, dag_id: str) -> None:
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def pause(self, dag_id: str) -> None:
        self.call("PATCH", f"/dags/{dag_id}", {"is_paused": True})

    def run(self, dag_id: str, **conf: str) -> str:
        """Trigger the DAG; the run's id."""
        body = {"logical_date": None, "conf": conf}
        run_id: str = self.call("POST", f"/dags/{dag_id}/dagRuns", body)["dag_run_id"]
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        state: str = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        self.call("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", {"state": state})

    def delete_run(self, dag_id: str, run_id: str) -> None:
        self.call("DELETE", f"/dags/{dag_id}/dagRuns/{run_id}")

    def question(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """What a person is asked; RestError until they are."""
        found: dict[str, Any] = self.call("GET", self._question(dag_id, run_id, task_id))
        return found

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        body = {"chosen_options": [option], "params_input": {}}
        self.call("PATCH", self._question(dag_id, run_id, task_id), body)

    def _question(self, dag_id: str, run_id: str, task_id: str) -> str:
        return f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"

    def task(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")
        return found

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        body = {"dag_run_id": run_id, "task_ids": [task_id], "dry_run": False, "only_failed": False}
        self.call("POST", f"/dags/{dag_id}/clearTaskInstances", body)

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        self.call("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", {"new_state": state})

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str) -> Any:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", f"{path}?deserialize=true")["value"]

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        found: dict[str, str | None] = self.call("GET", path)["extra_links"]
        return found

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        return "\n".join(map(str, self.call("GET", f"{path}?full_content=true")["content"]))

    def tails(self) -> str:
        return "\n".join(f"--- {part.name}\n{part.tail()}" for part in self.parts.values())


def wait_healthy(airflow: LiveAirflow, seconds: float) -> None:
    until = time.monotonic() + seconds
    found: dict[str, str] = {}
    while time.monotonic() < until:
        dead = [
            p.name for p in airflow.parts.values() if p.process is not None and p.process.poll() is not None
        ]
        assert not dead, f"{dead} ended:\n{airflow.tails()}"
        try:
            found = airflow.health()
        except httpx.HTTPError:
            time.sleep(0.5)
            continue
        if len(found) >= len(PARTS) and set(found.values()) == {"healthy"}:
            return
        time.sleep(0.5)
    raise AssertionError(f"Airflow is not healthy: {found}\n{airflow.tails()}")
