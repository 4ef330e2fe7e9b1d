from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from stream_world import AIRFLOW, ALICE, HASH

from headgate.checkpoints.origin import Origin
from headgate.errors import (
    KafkaUnavailable,
    NotFoundError,
    RefusedError,
    ServiceError,
    SettingsError,
    SupervisorUnavailable,
)
from headgate.settings import load_settings
from headgate.streams.api import MAX_BODY, create_app
from headgate.streams.client import AsyncSupervisorClient, SupervisorClient
from headgate.streams.drain import Ends
from headgate.streams.journal import Journal
from headgate.streams.launch import Launcher
from headgate.streams.lease import SupervisorLease
from headgate.streams.model import Desired, Owner, Phase
from headgate.streams.service import StreamService
from headgate.streams.store import StateStore
from headgate.streams.supervisor import Supervisor

TOKEN = "a token of some length"
ENDS: Ends = {"t": {0: 7, 11: 3}}


@dataclass
class Site:
    """The application over a real store; its loop made one round (the lease) and makes no more."""

    app: FastAPI
    store: StateStore
    supervisor: Supervisor
    now: float = 1_000_000_000.0
    journal: io.StringIO = field(default_factory=io.StringIO)
    ends: Ends | Exception = field(default_factory=lambda: ENDS)
    applied: set[str] = field(default_factory=set)

    def ask(self, _contract: str) -> Ends:
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends

    def client(self, token: str = TOKEN) -> AsyncSupervisorClient:
        return AsyncSupervisorClient("http://test", token, transport=httpx.ASGITransport(self.app))

    def call(self, use: Callable[[AsyncSupervisorClient], Awaitable[Any]], token: str = TOKEN) -> Any:
        async def run() -> Any:
            async with self.client(token) as client:
                return await use(client)

        return asyncio.run(run())

    def get(self, path: str) -> httpx.Response:
        """As a server answers: an exception of the application is an answer too."""

        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                return await http.get(path)

        return asyncio.run(run())

    def post(self, path: str, **request: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
                return await http.post(path, **request)

        return asyncio.run(run())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings, _ = load_settings(tmp_path, {})
    store = StateStore(settings.store_url)
    journal = Journal(io.StringIO())
    supervisor = Supervisor(
        settings, store, SupervisorLease(store, "far/a"), Launcher(settings), journal=journal
    )
    supervisor.round()
    site = Site(FastAPI(), store, supervisor)
    service = StreamService(store, supervisor, ends=site.ask, applied=lambda: site.applied)
    site.app = create_app(
        service,
        supervisor.health,
        TOKEN,
        wall=lambda: supervisor.health().last_round_at,
        journal=Journal(site.journal),
    )
    yield site
    store.close()


def start(client: AsyncSupervisorClient, key: str = "k", owner: Owner = ALICE) -> Awaitable[Any]:
    return client.ensure("s", pipeline="s", contract_hash=HASH, owner=owner, idempotency_key=key)


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_an_order_is_answered_with_its_generation_and_shown_as_starting(site: Site) -> None:
    status = site.call(start)
    assert (status.generation, status.phase, status.desired) == (1, Phase.STARTING, Desired.RUNNING)
    assert status.owner == ALICE
    assert site.call(lambda client: client.status("s")) == status
    assert site.call(lambda client: client.streams()) == [status]
    kinds = [event.kind for event in site.call(lambda client: client.events("s"))]
    assert kinds == ["order"]


def test_the_same_key_again_is_the_same_generation(site: Site) -> None:
    assert [site.call(start).generation for _ in range(3)] == [1, 1, 1]
    assert site.call(lambda client: start(client, "k2")).generation == 2


def test_an_unknown_stream_is_not_found(site: Site) -> None:
    with pytest.raises(NotFoundError, match="there is no stream 'x'"):
        site.call(lambda client: client.status("x"))
    with pytest.raises(NotFoundError):
        site.call(lambda client: client.stop("x", actor="cli:a"))
    with pytest.raises(NotFoundError):
        site.call(lambda client: client.restart("x", actor="cli:a", idempotency_key="k"))


def test_a_write_without_the_token_is_refused_and_changes_nothing(site: Site) -> None:
    for token in ("", "wrong", TOKEN + "x"):
        with pytest.raises(SettingsError, match="token"):
            site.call(start, token)
    for headers in ({}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
        assert site.post("/v1/platform/suspend", json={"actor": "cli:a"}, headers=headers).status_code == 401
    assert site.store.streams() == []
    assert not site.supervisor.suspended


def test_a_stop_by_another_owner_is_a_conflict_that_names_the_holder(site: Site) -> None:
    site.call(lambda client: start(client, owner=AIRFLOW))
    with pytest.raises(RefusedError, match=r"held by airflow:stream\.s/r/run") as caught:
        site.call(lambda client: client.stop("s", actor="cli:a", owner=ALICE))
    assert caught.value.help == "headgate stop s"


def test_a_stop_for_an_older_generation_is_a_conflict(site: Site) -> None:
    site.call(start)
    site.call(lambda client: start(client, "k2"))
    with pytest.raises(RefusedError, match="is at generation 2"):
        site.call(lambda client: client.stop("s", actor="cli:a", generation=1))


def test_a_later_try_of_the_same_task_is_another_owner(site: Site) -> None:
    site.call(lambda client: start(client, "t1", AIRFLOW))
    second = Owner("airflow", dag_id="stream.s", run_id="r", task_id="run", try_number=2, clear_number=1)
    site.call(lambda client: start(client, "t2", second))
    with pytest.raises(RefusedError):
        site.call(lambda client: client.stop("s", actor="airflow:stream.s/r/run", owner=AIRFLOW))


def test_a_stop_says_by_whom_and_why(site: Site) -> None:
    site.call(start)
    status = site.call(lambda client: client.stop("s", actor="cli:bob", reason="upgrade"))
    assert (status.desired, status.stopped_by) == (Desired.STOPPED, "cli:bob: upgrade")


def test_a_restart_keeps_the_owner_that_waits(site: Site) -> None:
    site.call(lambda client: start(client, owner=AIRFLOW))
    status = site.call(
        lambda client: client.restart(
            "s", actor="cli:bob", idempotency_key="r", owner=Owner("cli", "bob"), contract_hash="d" * 64
        )
    )
    assert (status.owner, status.generation, status.contract_hash) == (AIRFLOW, 2, "d" * 64)


def test_a_restart_carries_where_it_begins_and_nothing_that_is_the_supervisors_own(site: Site) -> None:
    site.call(start)
    origin = Origin("offsets", offsets={"t": {0: 4, 11: 5}}, note="why")
    site.call(lambda client: client.restart("s", actor="cli:bob", idempotency_key="r", origin=origin))
    record = site.store.stream("s")
    assert record is not None
    assert record.origin == origin
    body = {"actor": "cli:bob", "idempotency_key": "r2"}
    for wrong in (
        {"kind": "nowhere"},
        {"kind": "offsets", "offsets": {"t": {"0": -1}}},
        {"kind": "snapshot", "snapshot": "../../etc"},
        {"kind": "checkpoint", "keep": "mine"},
    ):
        answer = site.post("/v1/streams/s/restart", json={**body, "origin": wrong}, headers=bearer())
        assert answer.status_code == 400


def test_a_restart_of_a_stopped_stream_is_the_restarters_own(site: Site) -> None:
    site.call(lambda client: start(client, owner=AIRFLOW))
    site.call(lambda client: client.stop("s", actor="cli:bob"))
    status = site.call(lambda client: client.restart("s", actor="cli:bob", idempotency_key="r"))
    assert (status.owner, status.desired) == (Owner("cli", "bob"), Desired.RUNNING)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/streams/s/ensure", {}),
        ("/v1/streams/s/ensure", {"pipeline": "s", "contract_hash": "../x", "owner": {"kind": "cli"}}),
        (
            "/v1/streams/s/ensure",
            {"pipeline": "../s", "contract_hash": HASH, "owner": {"kind": "cli"}, "idempotency_key": "k"},
        ),
        ("/v1/streams/s/stop", {"actor": "cli:a", "mode": "softly"}),
        ("/v1/streams/s/stop", {"actor": "cli:a", "deadline_seconds": -1}),
        ("/v1/streams/s/stop", {"actor": "cli:a", "unknown": 1}),
        ("/v1/streams/s/stop", {"actor": ""}),
        ("/v1/streams/s/stop", {"actor": "supervisor"}),
        ("/v1/streams/s/stop", {"actor": "driver:x"}),
        ("/v1/streams/s/restart", {"actor": "cli:a"}),
        ("/v1/platform/suspend", {"actor": "supervisor:x"}),
    ],
)
def test_a_body_that_is_not_an_order_is_a_bad_request(site: Site, path: str, body: dict[str, Any]) -> None:
    answer = site.post(path, json=body, headers=bearer())
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "bad_request"


@pytest.mark.parametrize("name", ["S", "a b", "..", "x" * 80, "a%2F..%2Fb", "%00"])
def test_a_name_that_is_no_streams_name_starts_nothing(site: Site, name: str) -> None:
    body = {"pipeline": "s", "contract_hash": HASH, "owner": {"kind": "cli"}, "idempotency_key": "k"}
    answer = site.post(f"/v1/streams/{name}/ensure", json=body, headers=bearer())
    assert answer.status_code in (400, 404, 405)
    assert "error" in answer.json()
    assert site.store.streams() == []


def test_a_large_or_endless_body_is_refused_unread(site: Site) -> None:
    big = site.post("/v1/streams/s/stop", content=b"x" * (MAX_BODY + 1), headers=bearer())
    assert (big.status_code, big.json()["error"]["code"]) == (413, "too_large")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"{}"

    chunked = site.post("/v1/streams/s/stop", content=chunks(), headers=bearer())
    assert (chunked.status_code, chunked.json()["error"]["code"]) == (411, "length_required")


def test_what_is_not_there_is_a_json_error_too(site: Site) -> None:
    answer = site.post("/v2/nothing", json={}, headers=bearer())
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    broken = site.post("/v1/streams/s/stop", content=b"{", headers=bearer())
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "bad_request")


def test_suspension_is_shown_and_kept_as_an_event(site: Site) -> None:
    site.call(start)
    site.call(lambda client: client.suspend("cli:a"))
    assert site.call(lambda client: client.health())["suspended"] is True
    site.call(lambda client: client.resume("cli:a"))
    assert site.call(lambda client: client.health())["suspended"] is False
    kinds = [event.kind for event in site.store.events("s")]
    assert kinds == ["order", "suspend", "resume"]


def test_health_turns_bad_when_no_round_is_made(tmp_path: Path, site: Site) -> None:
    late = create_app(
        StreamService(site.store, site.supervisor),
        site.supervisor.health,
        TOKEN,
        wall=lambda: site.supervisor.health().last_round_at + 31,
        journal=Journal(site.journal),
    )
    site.app = late
    health = site.call(lambda client: client.health())
    assert (health["status"], health["role"]) == ("silent", "leader")


def test_health_says_how_long_ago_replays_were_looked_at(site: Site) -> None:
    assert site.call(lambda client: client.health())["replays_age"] is None, "nobody looks here"
    last = site.supervisor.health().last_round_at
    site.app = create_app(
        StreamService(site.store, site.supervisor),
        lambda: replace(site.supervisor.health(), replays_at=last - 40.0),
        TOKEN,
        wall=lambda: last,
        journal=Journal(site.journal),
    )
    assert site.call(lambda client: client.health())["replays_age"] == pytest.approx(40.0)


def test_a_drain_keeps_the_ends_of_its_moment_in_the_store_and_shows_how_far_it_is(site: Site) -> None:
    site.call(start)
    status = site.call(
        lambda client: client.drain("s", actor="cli:bob", reason="move", deadline_seconds=90.0)
    )
    assert status.draining is not None
    assert (status.draining["by"], status.draining["given_up"]) == ("cli:bob", None)
    assert status.desired is Desired.RUNNING
    record = site.store.stream("s")
    assert record is not None
    assert record.drain is not None
    assert record.drain.ends == ENDS
    assert site.call(lambda client: start(client, "k2")).draining is None


def test_a_drain_without_kafka_orders_nothing(site: Site) -> None:
    site.call(start)
    site.ends = KafkaUnavailable("Kafka does not answer")
    with pytest.raises(SupervisorUnavailable, match="Kafka does not answer"):
        site.call(lambda client: client.drain("s", actor="cli:bob"))
    record = site.store.stream("s")
    assert record is not None
    assert record.drain is None


def test_a_retired_stream_takes_orders_again_once_its_contract_is_applied(site: Site) -> None:
    site.call(start)
    status = site.call(lambda client: client.retire("s", actor="cli:bob", reason="old"))
    assert status.desired is Desired.RETIRED
    with pytest.raises(RefusedError, match="is retired"):
        site.call(lambda client: start(client, "k2"))
    record = site.store.stream("s")
    assert record is not None
    site.store.save(record, replace(record, phase=Phase.RETIRED))
    with pytest.raises(RefusedError, match="is retired"):
        site.call(lambda client: client.restart("s", actor="cli:bob", idempotency_key="r"))
    site.applied.add("s")
    assert site.call(lambda client: start(client, "k3")).desired is Desired.RUNNING


def test_a_standby_takes_no_orders(site: Site, tmp_path: Path) -> None:
    settings, _ = load_settings(tmp_path, {})
    standby = Supervisor(
        settings,
        site.store,
        SupervisorLease(site.store, "far/b"),
        Launcher(settings),
        journal=Journal(io.StringIO()),
    )
    standby.round()
    service = StreamService(site.store, standby)
    site.app = create_app(
        service,
        standby.health,
        TOKEN,
        wall=lambda: standby.health().last_round_at,
        journal=Journal(site.journal),
    )
    with pytest.raises(SupervisorUnavailable, match="standby"):
        site.call(start)


@pytest.mark.parametrize("after", [2**63, 99999999999999999999, -(2**63) - 1])
def test_a_number_beyond_64_bits_is_a_bad_request(site: Site, after: int) -> None:
    site.call(start)
    answer = site.get(f"/v1/streams/s/events?after={after}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_request")
    assert "after" in answer.json()["error"]["message"]
    assert site.get(f"/v1/streams/s/events?after={2**63 - 1}").json() == []


def test_what_nobody_foresaw_is_json_and_its_traceback_is_in_the_journal(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(site.store, "streams", fail)
    answer = site.get("/v1/streams")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "headgate logs supervisor" in answer.json()["error"]["help"]
    [line] = [json.loads(line) for line in site.journal.getvalue().splitlines()]
    assert (line["event"], line["level"], line["path"]) == ("request failed", "error", "/v1/streams")
    assert line["error"] == "RuntimeError: odd" and "in fail" in line["traceback"]


def test_a_driver_that_was_not_looked_at_yet_is_neither_alive_nor_dead(site: Site) -> None:
    assert site.call(start).driver_alive is None
    assert site.call(lambda client: client.status("s")).driver_alive is None


# The synchronous client against answers as they come over the wire


def sync_client(answer: Callable[[httpx.Request], httpx.Response]) -> SupervisorClient:
    return SupervisorClient("http://test", TOKEN, transport=httpx.MockTransport(answer))


def test_both_clients_have_the_same_calls() -> None:
    import inspect

    for name in ("health", "streams", "status", "events", "ensure", "stop", "restart", "suspend", "resume"):
        ours = inspect.signature(getattr(SupervisorClient, name))
        other = inspect.signature(getattr(AsyncSupervisorClient, name))
        assert ours.parameters == other.parameters, name


def test_a_supervisor_that_does_not_answer_is_unavailable_not_dead() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with sync_client(refuse) as client, pytest.raises(SupervisorUnavailable, match="connection refused"):
        client.streams()


def test_a_timeout_is_unavailable_too() -> None:
    def hang(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    with sync_client(hang) as client, pytest.raises(SupervisorUnavailable, match="ReadTimeout"):
        client.status("s")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, SettingsError),
        (404, NotFoundError),
        (409, RefusedError),
        (503, SupervisorUnavailable),
        (500, ServiceError),
        (400, ServiceError),
    ],
)
def test_each_error_status_is_its_own_error(status: int, kind: type[Exception]) -> None:
    body = {"error": {"code": "c", "message": "what happened", "help": "do this"}}
    with (
        sync_client(lambda request: httpx.Response(status, json=body)) as client,
        pytest.raises(kind, match="what happened") as caught,
    ):
        client.status("s")
    assert "do this" in str(caught.value)


def test_an_answer_that_is_no_json_is_a_service_error() -> None:
    with (
        sync_client(lambda request: httpx.Response(200, text="<html>")) as client,
        pytest.raises(ServiceError, match="no JSON"),
    ):
        client.streams()


def test_the_token_goes_with_every_call_and_into_no_error() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(500, json={"error": {"message": "broken"}})

    with sync_client(answer) as client, pytest.raises(ServiceError) as caught:
        client.suspend("cli:a")
    assert seen == [f"Bearer {TOKEN}"]
    assert TOKEN not in str(caught.value)
