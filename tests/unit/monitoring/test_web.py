from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flask.testing import FlaskClient
from monitoring_examples import NOW, event, orders, platform, readings, status

from headgate.settings import load_settings
from monitoring.readings import Readings, Supervised
from monitoring.snapshot import PlatformSnapshot
from monitoring.web import create_app


def _client(snapshot: Callable[[], PlatformSnapshot] | None = None) -> FlaskClient:
    settings, _ = load_settings(Path(__file__).parent, environ={})
    return create_app(settings, snapshot or platform).test_client()


def _page(value: Readings, *, down: tuple[str, ...] = ()) -> str:
    return _client(lambda: platform(value, down=down)).get("/").get_data(as_text=True)


def test_discovery_lists_live_drivers_and_producers_with_instances_of_their_own() -> None:
    found = _client().get("/sd").get_json()
    assert [(group["targets"], group["labels"]["instance"]) for group in found] == [
        (["127.0.0.1:40001"], "driver-orders"),
        (["127.0.0.1:40002"], "producer-orders-40002"),
    ]


def test_discovery_can_be_asked_for_one_kind() -> None:
    client = _client()
    assert [g["labels"]["process"] for g in client.get("/sd/drivers").get_json()] == ["driver"]
    assert [g["labels"]["process"] for g in client.get("/sd/producers").get_json()] == ["producer"]
    assert client.get("/sd/others").status_code == 404


def test_discovery_is_an_empty_list_when_nothing_lives() -> None:
    answer = _client(lambda: platform(Readings())).get("/sd")
    assert answer.status_code == 200 and answer.get_json() == []
    assert answer.content_type.startswith("application/json")


def test_metrics_are_in_prometheus_text() -> None:
    answer = _client().get("/metrics")
    assert answer.content_type.startswith("text/plain")
    assert 'headgate_stream_desired{pipeline="orders"} 1.0' in answer.get_data(as_text=True)


def test_the_api_tells_the_same_as_the_command_line() -> None:
    document = _client().get("/api/status").get_json()
    first = document["pipelines"][0]
    assert {key: first[key] for key in orders().to_json()} == orders().to_json()
    assert [item["id"] for item in first["events"]] == [2, 1]
    assert {source["name"] for source in document["sources"]} >= {"kafka", "supervisor"}


def test_the_page_is_whole_without_a_script_and_loads_nothing_from_elsewhere() -> None:
    page = _page(readings())
    for text in ("orders", "running", "12.5", "2 (2 %)", "passed", "first batch"):
        assert text in page
    assert 'http-equiv="refresh"' in page
    assert "src=" not in page and "@import" not in page and "stylesheet" not in page


def test_the_page_escapes_what_contracts_and_events_say() -> None:
    hostile = Supervised(
        {"orders": status(reason="<script>alert(1)</script>")},
        {"orders": (event(1, detail="<b>x</b>"),)},
        NOW,
    )
    page = _page(readings(supervised=hostile))
    assert "<script>alert" not in page and "<b>x</b>" not in page
    assert "Orders &lt;by&gt; minute." in page


def test_a_dead_source_is_the_first_thing_on_the_page() -> None:
    page = _page(readings(lags=None), down=("kafka",))
    assert "cannot be read" in page and "lag unknown" in page
    assert page.index("cannot be read") < page.index("<article")


def test_what_needs_a_person_comes_first() -> None:
    bad = replace(orders(), pipeline="zebra", state="parked")
    snapshot = replace(platform(), pipelines=(orders(), bad))
    page = _client(lambda: snapshot).get("/").get_data(as_text=True)
    assert page.index("stream-zebra") < page.index("stream-orders")


def test_without_a_contract_the_page_says_what_to_do() -> None:
    assert "headgate apply" in _page(Readings(contracts={}))


def test_every_answer_forbids_foreign_content() -> None:
    answer = _client().get("/")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_runbooks_are_served_by_name_and_by_the_links_between_them() -> None:
    client = _client()
    page = client.get("/runbooks/StreamDown").get_data(as_text=True)
    assert "<h2>Diagnosis</h2>" in page and 'href="StreamParked.md"' in page
    assert client.get("/runbooks/StreamParked.md").status_code == 200
    assert client.get("/runbooks/README").status_code == 200


def test_an_unknown_runbook_is_not_found_and_paths_do_not_escape() -> None:
    client = _client()
    assert client.get("/runbooks/Nothing").status_code == 404
    assert client.get("/runbooks/..%2f..%2fREADME").status_code == 404


def test_health_answers_whatever_the_sources_do() -> None:
    assert _client(lambda: platform(Readings())).get("/healthz").get_json() == {"status": "ok"}


def test_a_forgotten_stream_needs_a_person_and_names_its_runbook() -> None:
    page = _page(readings(supervised=Supervised({}, {}, NOW)))
    assert "▲" in page and "/runbooks/StreamForgotten" in page
