"""The few calls of Airflow's REST API that bring a pipeline's DAGs up."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import httpx

from headgate.errors import ServiceError, UnavailableError
from headgate.settings import Settings

__all__ = ["AirflowApi"]

TIMEOUT = 60.0
ACTIVE = ("queued", "running")
# What may be sent again when Airflow's database was busy or it restarts; a new run may not.
REPEATABLE = ("GET", "PATCH")
ATTEMPTS = 4
PAUSE = 2.0


class AirflowApi:
    """A login to Airflow with the password of the settings; the token stays in memory."""

    def __init__(self, settings: Settings, transport: httpx.BaseTransport | None = None) -> None:
        self._url = settings.airflow.url
        self._login = {
            "username": settings.airflow.username,
            "password": settings.secret(settings.airflow.password),
        }
        self._token: str | None = None
        # trust_env: a proxy that the environment names has no business between loopback addresses.
        self._http = httpx.Client(base_url=self._url, timeout=TIMEOUT, trust_env=False, transport=transport)

    def close(self) -> None:
        self._http.close()

    def has_dag(self, dag_id: str) -> bool:
        """Whether the dag-processor has seen it."""
        return self._call("GET", f"/api/v2/dags/{quote(dag_id)}", missing_ok=True) is not None

    def import_errors(self) -> list[str]:
        found = self._call("GET", "/api/v2/importErrors") or {}
        return [f"{item['filename']}: {item['stack_trace']}" for item in found.get("import_errors", [])]

    def unpause(self, dag_id: str) -> bool:
        """Let the DAG run; False when it already could."""
        dag = self._call("GET", f"/api/v2/dags/{quote(dag_id)}") or {}
        if not dag.get("is_paused"):
            return False
        self._call("PATCH", f"/api/v2/dags/{quote(dag_id)}", {"is_paused": False})
        return True

    def active_run(self, dag_id: str) -> str | None:
        """The id of a run that is queued or running."""
        query = "&".join(f"state={state}" for state in ACTIVE)
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns?{query}&limit=1"
        runs = (self._call("GET", path) or {}).get("dag_runs", [])
        return str(runs[0]["dag_run_id"]) if runs else None

    def last_run(self, dag_id: str) -> str | None:
        """The id of the newest run, whatever became of it."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns?order_by=-run_after&limit=1"
        runs = (self._call("GET", path) or {}).get("dag_runs", [])
        return str(runs[0]["dag_run_id"]) if runs else None

    def trigger(self, dag_id: str) -> str:
        """Start a new run and return its id."""
        run = self._call("POST", f"/api/v2/dags/{quote(dag_id)}/dagRuns", {"logical_date": None}) or {}
        return str(run["dag_run_id"])

    def failed_tasks(self, dag_id: str, run_id: str) -> list[str]:
        """Ids of the run's tasks that failed."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        found = (self._call("GET", path) or {}).get("task_instances", [])
        return [item["task_id"] for item in found if item["state"] in {"failed", "upstream_failed"}]

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, missing_ok: bool = False
    ) -> dict[str, Any] | None:
        attempts = ATTEMPTS if method in REPEATABLE else 1
        for attempt in range(1, attempts + 1):
            answer = self._send(method, path, body)
            if not answer.is_server_error or attempt == attempts:
                break
            time.sleep(PAUSE)
        if missing_ok and answer.status_code == httpx.codes.NOT_FOUND:
            return None
        if answer.is_error:
            raise ServiceError(
                f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:500]}",
                help="headgate logs airflow-api-server",
            )
        content: dict[str, Any] = answer.json() if answer.content else {}
        return content

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        try:
            headers = {"Authorization": f"Bearer {self._token or self._log_in()}"}
            answer = self._http.request(method, path, json=body, headers=headers)
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                headers = {"Authorization": f"Bearer {self._log_in()}"}
                answer = self._http.request(method, path, json=body, headers=headers)
            return answer
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"Airflow does not answer at {self._url}: {error}", help="headgate doctor"
            ) from error

    def _log_in(self) -> str:
        answer = self._http.post("/auth/token", json=self._login)
        if answer.is_error:
            raise ServiceError(
                f"Airflow refused the login of {self._login['username']}: {answer.status_code}",
                help="the password is in var/secrets; `headgate down` and `headgate up` write it anew",
            )
        self._token = str(answer.json()["access_token"])
        return self._token
