from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from headgate.errors import ServiceError
from headgate.local import airflow_api, secrets
from headgate.local.airflow_api import AirflowApi
from headgate.settings import load_settings

BUSY = httpx.Response(500, json={"detail": {"reason": "Database error"}})


@pytest.fixture
def api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[httpx.Response]], tuple[AirflowApi, list[str]]]:
    monkeypatch.setattr(airflow_api, "PAUSE", 0.0)
    settings, _ = load_settings(
        environ={"HEADGATE_HOME": str(tmp_path), "HEADGATE_ROOTS_STATE": str(tmp_path / "var")}
    )
    secrets.ensure(settings, settings.airflow.password, secrets.password)

    def make(answers: list[httpx.Response]) -> tuple[AirflowApi, list[str]]:
        seen: list[str] = []

        def handle(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/auth/token":
                return httpx.Response(201, json={"access_token": "t"})
            seen.append(f"{request.method} {request.url.path} {request.content.decode()}".strip())
            return answers.pop(0)

        return AirflowApi(settings, httpx.MockTransport(handle)), seen

    return make


def test_a_busy_database_is_asked_again(api):
    paused = httpx.Response(200, json={"is_paused": True})
    under_test, seen = api([BUSY, paused, BUSY, BUSY, httpx.Response(200, json={})])
    assert under_test.unpause("d") is True
    change = "PATCH /api/v2/dags/d " + json.dumps({"is_paused": False}, separators=(",", ":"))
    assert seen == ["GET /api/v2/dags/d"] * 2 + [change] * 3


def test_a_database_that_stays_busy_is_an_error_that_names_the_log(api):
    under_test, seen = api([BUSY] * airflow_api.ATTEMPTS)
    with pytest.raises(ServiceError, match="answered 500 to GET") as refused:
        under_test.has_dag("d")
    assert refused.value.help == "headgate logs airflow-api-server"
    assert len(seen) == airflow_api.ATTEMPTS


def test_a_new_run_is_never_asked_for_twice(api):
    under_test, seen = api([BUSY])
    with pytest.raises(ServiceError):
        under_test.trigger("d")
    assert len(seen) == 1
