from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis import Redis

from headgate.contract.frozen import ContractStore, FrozenContract, ResolvedOutput, freeze
from headgate.contract.model import Contract
from headgate.settings import Settings
from serving.app import create_app
from serving.contracts import AppliedOutputs
from serving.results import ResultRow, ResultStore

NOON = 1_696_161_600_000  # 2023-10-01 12:00:00 UTC
NOW = NOON / 1000 + 90


def frozen(pipeline: str, outputs: dict[str, list[dict[str, str]]]) -> FrozenContract:
    contract = Contract.model_validate(
        {
            "headgate": 1,
            "pipeline": pipeline,
            "version": 1,
            "owner": "tests",
            "sources": {"lines": {"topic": "t"}},
            "outputs": {name: {"sql": "SELECT 1", "to": to} for name, to in outputs.items()},
        }
    )
    resolved = {name: ResolvedOutput(True, {"fields": []}, "minute", 60.0) for name in outputs}
    return freeze(
        contract, topics={"lines": "t"}, replication=1, outputs=resolved, env="local", headgate_version="0"
    )


def apply(state: Path, contract: FrozenContract) -> None:
    store = ContractStore(state)
    store.put(contract)
    store.set_applied(contract, at=0.0, by="test", file="x.yaml")


@pytest.fixture
def store(redis_server: Any) -> Iterator[ResultStore]:
    client = Redis(port=redis_server.port, db=2, decode_responses=True)
    client.flushdb()
    yield ResultStore(client, "local", clock=lambda: NOW)
    client.close()


@pytest.fixture
def api(store: ResultStore, tmp_path: Path) -> FlaskClient:
    both = [{"delta": "per_minute"}, {"redis": "latest_serving"}]
    apply(tmp_path, frozen("serving", {"per_minute": both, "raw": [{"delta": "raw"}]}))
    return create_app(store, AppliedOutputs(tmp_path), clock=lambda: NOW).test_client()


def publish(
    store: ResultStore, minute: int, *values: int, watermark: float | None = None, batch: int = 7
) -> None:
    at = NOON + minute * 60_000
    store.publish(
        "serving",
        "per_minute",
        epoch=3,
        batch_id=batch,
        rows=[ResultRow(at, str(value), {"value": value}) for value in values],
        published_key="latest_serving",
        keep=3,
        watermark=watermark,
        by_event_time=True,
        window_seconds=60.0,
    )


def test_before_there_is_a_result_the_answer_is_404(api: FlaskClient) -> None:
    answer = api.get("/api/serving")
    assert (answer.status_code, answer.get_json()) == (404, {"error": "No data available"})


@pytest.mark.parametrize("path", ["/api/serving", "/api/serving/", "/api/serving/per_minute"])
def test_the_newest_result_is_answered_with_where_it_comes_from(
    api: FlaskClient, store: ResultStore, path: str
) -> None:
    publish(store, 0, 1, 2, watermark=NOON / 1000)
    answer = api.get(path)
    assert answer.status_code == 200
    assert answer.get_json() == {
        "pipeline": "serving",
        "output": "per_minute",
        "event_time": "2023-10-01T12:00:00Z",
        "rows": [{"value": 1}, {"value": 2}],
        "complete": False,
        "age_seconds": 90.0,
        "watermark": "2023-10-01T12:00:00Z",
        "verdict": None,
        "withheld": False,
        "batch_id": 7,
        "epoch": 3,
    }


@pytest.mark.parametrize(("watermark", "complete"), [(None, None), (59.9, False), (60.0, True)])
def test_a_minute_is_complete_when_the_watermark_has_passed_its_end(
    api: FlaskClient, store: ResultStore, watermark: float | None, complete: bool | None
) -> None:
    publish(store, 0, 1, watermark=None if watermark is None else NOON / 1000 + watermark)
    assert api.get("/api/serving").get_json()["complete"] is complete


def test_a_withheld_result_gives_way_to_the_last_good_one(api: FlaskClient, store: ResultStore) -> None:
    publish(store, 0, 1)
    store.set_hold("serving", "per_minute", "passed", NOON, 1.0)
    publish(store, 1, 2, batch=8)
    store.set_hold("serving", "per_minute", "failed", NOON + 60_000, 2.0)
    body = api.get("/api/serving").get_json()
    assert (body["event_time"], body["verdict"], body["withheld"]) == ("2023-10-01T12:00:00Z", "failed", True)


def test_a_result_that_never_passed_is_not_shown_and_the_answer_says_why(
    api: FlaskClient, store: ResultStore
) -> None:
    publish(store, 0, 1)
    store.set_hold("serving", "per_minute", "failed", NOON, 1.0)
    answer = api.get("/api/serving")
    assert answer.status_code == 404
    assert answer.get_json()["error"] == "No data available"
    assert answer.get_json()["help"] == "headgate check serving"


def test_history_answers_the_last_event_times(api: FlaskClient, store: ResultStore) -> None:
    for minute in range(5):
        publish(store, minute, minute, batch=minute)
    body = api.get("/api/serving/per_minute/history?limit=2").get_json()
    assert [item["rows"] for item in body["history"]] == [[{"value": 4}], [{"value": 3}]]


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1001", "٣", "1" * 5000])
def test_a_limit_that_is_none_is_a_400(api: FlaskClient, limit: str) -> None:
    answer = api.get("/api/serving/per_minute/history", query_string={"limit": limit})
    assert answer.status_code == 400
    assert answer.get_json()["help"] == "limit is a whole number from 1 to 1000"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/api/nope", "Unknown pipeline 'nope'"),
        ("/api/nope/x/history", "Unknown pipeline 'nope'"),
        ("/api/serving/nope", "Unknown output 'nope' of pipeline 'serving'"),
        ("/api/serving/raw", "The output 'raw' of pipeline 'serving' goes to Redis"),
        ("/favicon.ico", "Not Found"),
    ],
)
def test_what_is_not_there_is_a_404_that_helps(api: FlaskClient, path: str, error: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.get_json()["error"]) == (404, error)
    assert answer.get_json()["help"]


def test_another_method_is_a_405_in_json(api: FlaskClient) -> None:
    answer = api.post("/api/serving")
    assert (answer.status_code, answer.get_json()["error"]) == (405, "Method Not Allowed")
    assert "GET" in answer.headers["Allow"]


def test_an_unexpected_error_is_a_500_in_json_without_its_text(
    api: FlaskClient, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(store, "latest", broken)
    answer = api.get("/api/serving")
    assert answer.status_code == 500
    assert "a secret" not in answer.get_data(as_text=True)
    assert answer.get_json()["error"] == "Internal error"


def test_a_newly_applied_contract_is_served_without_a_restart(store: ResultStore, tmp_path: Path) -> None:
    moment = [0.0]
    api = create_app(store, AppliedOutputs(tmp_path, lambda: moment[0])).test_client()
    assert api.get("/api").get_json() == {"pipelines": {}}
    apply(tmp_path, frozen("later", {"one": [{"redis": "latest_later"}]}))
    moment[0] = 5.0
    assert api.get("/api").get_json() == {"pipelines": {"later": ["/api/later/one"]}}


def test_a_contract_that_cannot_be_read_leaves_the_others_served(store: ResultStore, tmp_path: Path) -> None:
    apply(tmp_path, frozen("good", {"one": [{"redis": "latest_good"}]}))
    (tmp_path / "contracts" / "applied" / "bad.json").write_text("{")
    api = create_app(store, AppliedOutputs(tmp_path)).test_client()
    assert api.get("/api/good").get_json() == {"error": "No data available"}
    health = api.get("/health").get_json()
    assert (health["status"], list(health["problems"])) == ("degraded", ["bad"])


def test_requests_are_counted_by_route_and_status(api: FlaskClient) -> None:
    api.get("/api/serving")
    api.get("/wp-login.php")
    text = api.get("/metrics").get_data(as_text=True)
    assert 'headgate_serving_requests_total{endpoint="latest",status="404"} 1.0' in text
    assert 'headgate_serving_requests_total{endpoint="none",status="404"} 1.0' in text
    assert "wp-login" not in text


def _get(url: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            return response.status, json.load(response), dict(response.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), dict(error.headers)


def test_the_command_serves_survives_redis_and_ends_on_sigterm(
    redis_server: Any,
    service_environ: dict[str, str],
    service_settings: Settings,
    poll_until: Callable[..., Any],
) -> None:
    apply(service_settings.state, frozen("serve-e2e", {"one": [{"redis": "latest_serve_e2e"}]}))
    base = f"http://127.0.0.1:{service_settings.serving.port}"
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("headgate")), "serve"], env={**os.environ, **service_environ}
    )
    try:
        poll_until(lambda: _get(f"{base}/health")[0] == 200, 60, "serving answers")
        assert _get(f"{base}/api/serve-e2e")[:2] == (404, {"error": "No data available"})
        redis_server.kill()
        status, body, headers = _get(f"{base}/api/serve-e2e")
        assert (status, headers["Retry-After"], headers["Content-Type"]) == (503, "5", "application/json")
        assert "does not answer" in body["error"]
        assert _get(f"{base}/health")[0] == 503
        redis_server.start()
        poll_until(lambda: _get(f"{base}/health")[0] == 200, 120, "serving answers after Redis is back")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if redis_server.process is None:
            redis_server.start()
