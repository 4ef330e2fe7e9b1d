from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.airflow import operations, origins
from headgate.airflow.operations import CHOICES, Approval, Ground, Proposal, Request, choice, fence, unwatched
from headgate.checkpoints.choices import OriginPlan, Place, begin_at
from headgate.checkpoints.origin import Origin
from headgate.checkpoints.preflight import Finding
from headgate.checkpoints.sinks import Sink
from headgate.errors import NotFoundError, RefusedError
from headgate.streams.model import Desired, DriverStatus, Owner, Phase, QueryProgress, StreamStatus

TASK = Owner("airflow", dag_id="stream.logs", run_id="r1", task_id="run_stream", try_number=1)
DRIVER = DriverStatus(
    stream="logs",
    pipeline="logs",
    epoch=7,
    generation=4,
    contract_hash="ab" * 32,
    lineage="1-a",
    headgate_version="1",
    pid=1,
    phase="running",
    written_at=1.0,
    queries={"records": QueryProgress(batch_id=41)},
)
RUNNING = StreamStatus(
    stream="logs",
    pipeline="logs",
    phase=Phase.RUNNING,
    desired=Desired.RUNNING,
    generation=4,
    epoch=7,
    contract_hash="ab" * 32,
    owner=TASK,
    driver=DRIVER,
    driver_alive=True,
)
PARKED = replace(RUNNING, phase=Phase.PARKED, reason="offsets are gone", driver=None, driver_alive=False)
STOPPED = replace(
    PARKED, phase=Phase.STOPPED, desired=Desired.STOPPED, stopped_by="cli:ann: disk", reason="disk"
)
APPROVAL = Approval("bob", "operate.logs", "r9")


@pytest.fixture(autouse=True)
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the preflight finds; nothing unless a test adds to it."""
    found: list[Finding] = []
    monkeypatch.setattr("headgate.checkpoints.preflight.preflight", lambda settings, frozen: found)
    return found


def propose(action: str, status: StreamStatus, applied: str = "ab" * 32, **config: str) -> Proposal:
    sources = {"lines": SimpleNamespace(config=config)}
    frozen = SimpleNamespace(
        hash=applied, contract=SimpleNamespace(sources=sources), topics={"lines": "log_lines"}
    )
    ground: Any = Ground(SimpleNamespace(), frozen, status)  # type: ignore[arg-type]
    return choice(action).propose(ground, request(action))


def request(action: str, asked_by: str = "ann") -> Request:
    return Request("logs", action, "new heap", asked_by=asked_by)


class Client:
    def __init__(self) -> None:
        self.orders: list[tuple[str, str, dict[str, Any]]] = []

    def restart(self, stream: str, **order: Any) -> StreamStatus:
        self.orders.append(("restart", stream, order))
        return RUNNING

    def stop(self, stream: str, **order: Any) -> StreamStatus:
        self.orders.append(("stop", stream, order))
        return STOPPED

    drain = retire = stop


def order(action: str, status: StreamStatus = RUNNING, asked_by: str = "ann") -> dict[str, Any]:
    client = Client()
    choice(action).order(client, request(action, asked_by), propose(action, status), APPROVAL)  # type: ignore[arg-type]
    ((_, stream, given),) = client.orders
    assert stream == "logs"
    return given


@pytest.fixture(autouse=True)
def _no_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an origin means today is looked up in Kafka; here three records would be read again."""

    def planned(kind: str, _ground: Ground, value: str) -> OriginPlan:
        places = [Place("records", "t", 0, low=2, end=9, committed=5)]
        sinks = [Sink("copy", "records", ("copy",), keyed=False)]
        return begin_at("logs", Origin(kind, offsets={"t": {0: 2}}, note=value), places, sinks)

    monkeypatch.setattr(origins, "_planned", planned)
    monkeypatch.setattr(origins, "_accept_topics", lambda _hash: None)


def test_a_choice_that_begins_elsewhere_orders_the_very_offsets_that_were_shown() -> None:
    proposal = propose("restart from earliest", RUNNING)
    assert (proposal.repeated, proposal.lost) == ("3 records are read again", "0 records are skipped")
    assert order("restart from earliest")["origin"] == Origin("earliest", offsets={"t": {0: 2}})


@pytest.mark.parametrize("each", CHOICES, ids=lambda each: each.name)
def test_every_choice_says_what_is_read_again_and_what_is_lost(each: operations.Choice) -> None:
    proposal = propose(each.name, RUNNING)
    assert proposal.steps and proposal.repeated and proposal.lost
    assert (proposal.generation, proposal.desired) == (4, "running")


@pytest.mark.parametrize("each", CHOICES, ids=lambda each: each.name)
def test_every_choice_orders_in_the_name_of_who_approved_it(each: operations.Choice) -> None:
    given = order(each.name)
    assert given["actor"] == "airflow:bob@operate.logs"
    assert given["reason"] == f"{each.name}, approved by bob, asked for by ann: new heap"
    for asked_by in ("bob", ""):
        assert "asked for" not in order(each.name, asked_by=asked_by)["reason"]


def test_only_a_stream_that_runs_on_can_be_drained() -> None:
    assert propose("drain and stop", RUNNING).refusals == ()
    assert "nothing would be drained" in propose("drain and stop", STOPPED).refusals[0]
    assert "parked, so nothing drains: offsets are gone" in propose("drain and stop", PARKED).refusals[0]


def test_a_retirement_says_what_stays_and_how_to_undo_it() -> None:
    proposal = propose("retire", RUNNING)
    told = "\n".join(proposal.steps)
    assert "tables, checkpoints, contracts and events stay" in told
    assert "headgate apply logs, then headgate start logs" in told
    assert propose("retire", replace(STOPPED, phase=Phase.RETIRED)).refusals == ("logs is retired already",)


def test_an_action_that_is_not_offered_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="restart from checkpoint, stop"):
        choice("restart from yesterday")


def test_a_restart_is_ordered_once_per_run_and_with_the_contract_of_the_plan() -> None:
    first, again = order("restart from checkpoint"), order("restart from checkpoint")
    assert first["idempotency_key"] == again["idempotency_key"]
    assert first["idempotency_key"] != replace(APPROVAL, run_id="r10").key
    assert first["contract_hash"] == "ab" * 32
    assert first["owner"] == Owner("cli", user="bob")


def test_a_restart_says_where_the_checkpoint_is_and_which_contract_comes() -> None:
    told = "\n".join(propose("restart from checkpoint", RUNNING).steps)
    assert "records has batch 41" in told and "as it runs now" in told
    told = "\n".join(propose("restart from checkpoint", RUNNING, applied="cd" * 32).steps)
    assert "contract cdcdcdcdcdcd" in told and "replaces abababababab" in told


def test_a_restart_that_preflight_refuses_is_refused(findings: list[Finding]) -> None:
    findings += [Finding("offsets_gone", "refuse", "10 records are gone"), Finding("x", "warn", "look out")]
    proposal = propose("restart from checkpoint", PARKED)
    assert "10 records are gone" in proposal.refusals[0]
    assert any("look out" in step for step in proposal.steps)


def test_a_stream_without_a_driver_repeats_nothing() -> None:
    proposal = propose("restart from checkpoint", PARKED)
    assert proposal.repeated == "nothing"
    assert "no driver runs: the stream is parked (offsets are gone)" in proposal.steps


def test_a_stop_says_how_long_kafka_keeps_what_is_not_read() -> None:
    assert "log_lines 2 hours" in propose("stop", RUNNING, **{"retention.ms": "7200000"}).lost
    assert "log_lines for ever" in propose("stop", RUNNING, **{"retention.ms": "-1"}).lost
    assert "the broker's default" in propose("stop", RUNNING).lost


def test_a_stop_says_what_becomes_of_the_waiting_task() -> None:
    assert any("run_stream of stream.logs ends as skipped" in step for step in propose("stop", RUNNING).steps)
    assert not any("skipped" in step for step in propose("stop", PARKED).steps)


def test_what_is_stopped_cannot_be_stopped_again() -> None:
    assert propose("stop", STOPPED).refusals == ("logs is stopped already by cli:ann: disk",)
    assert propose("stop", PARKED).refusals == ()


def test_a_stop_is_fenced_by_the_generation_of_the_plan() -> None:
    assert order("stop")["generation"] == 4


@pytest.mark.parametrize("change", [{"generation": 5}, {"desired": Desired.STOPPED}])
def test_a_plan_is_void_once_the_stream_has_changed(change: dict[str, Any]) -> None:
    proposal = propose("stop", RUNNING)
    fence(proposal, RUNNING)
    with pytest.raises(RefusedError, match="has changed since the plan"):
        fence(proposal, replace(RUNNING, **change))


def test_a_plan_survives_the_trip_through_an_xcom() -> None:
    proposal = replace(propose("stop", RUNNING), detail={"offsets": {"log_lines": {"0": 12}}})
    assert Proposal.from_json(proposal.to_json()) == proposal


@pytest.mark.parametrize(
    ("status", "alone"),
    [
        (RUNNING, False),
        (PARKED, True),
        (STOPPED, True),
        (replace(RUNNING, owner=None), True),
        (replace(RUNNING, owner=Owner("cli", user="ann")), True),
    ],
)
def test_a_stream_is_watched_while_a_task_of_airflow_waits_for_it(status: StreamStatus, alone: bool) -> None:
    assert unwatched(status) is alone
