"""`headgate restart --from`: what is asked, what is refused, and what is ordered."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.checkpoints.choices import Place, begin_at
from headgate.checkpoints.origin import Origin
from headgate.checkpoints.sinks import Sink
from headgate.cli import restart as module
from headgate.cli.main import run
from headgate.streams.model import Desired, DriverStatus, Phase, StreamStatus

DRIVER = DriverStatus("shop", "shop", 3, 2, "ab" * 32, "1-a", "1", 1, "running", 1.0)
STATUS = StreamStatus("shop", "shop", Phase.RUNNING, Desired.RUNNING, 2, 3, "ab" * 32, driver=DRIVER)


class Client:
    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []
        self.accepted: list[int] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def restart(self, _pipeline: str, **order: Any) -> StreamStatus:
        self.orders.append(order)
        return STATUS


def planned(begin: int) -> Any:
    origin = Origin("earliest", offsets={"t": {0: begin}})
    place = Place("records", "t", 0, 5, 90, 60)
    return begin_at("shop", origin, [place], [Sink("copy", "records", ("copy",), keyed=False)])


@pytest.fixture
def client(monkeypatch):
    client = Client()
    monkeypatch.setattr(module, "read_settings", SimpleNamespace)
    monkeypatch.setattr(module, "applied_hash", lambda *_: "ab" * 32)
    monkeypatch.setattr(module, "supervisor_client", lambda _: client)
    monkeypatch.setattr(module, "_plan", lambda *_: planned(5))
    monkeypatch.setattr(module, "_accept_topics", lambda *_: client.accepted.append(len(client.orders)))
    return client


def test_without_a_terminal_nothing_destructive_is_done_without_yes(client, capsys):
    assert run(["restart", "shop", "--from", "earliest"]) == 3
    told = capsys.readouterr()
    assert client.orders == []
    assert "55 (5 to 59)" in told.out
    assert "there twice" in told.out
    assert "give --yes" in told.err


def test_with_yes_the_order_carries_the_offsets_that_were_told(client, capsys):
    assert run(["restart", "shop", "--from", "earliest", "--yes", "--json"]) == 0
    assert client.orders[0]["origin"] == Origin("earliest", offsets={"t": {0: 5}})
    assert json.loads(capsys.readouterr().out)["generation"] == 2
    assert client.accepted == [1]  # topics made anew are remembered once the order is given, not before


def test_a_dry_run_orders_nothing_and_needs_no_yes(client, capsys):
    assert run(["restart", "shop", "--from", "earliest", "--dry-run", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["repeats"], data["loses"]) == (55, 0)
    assert run(["restart", "shop", "--dry-run"]) == 0
    assert client.orders == []


def test_what_cannot_be_carried_out_is_refused_even_with_yes(client, monkeypatch, capsys):
    monkeypatch.setattr(module, "_plan", lambda *_: planned(1))
    assert run(["restart", "shop", "--from", "earliest", "--yes"]) == 3
    assert "retention took 1 to 4" in capsys.readouterr().err
    assert client.orders == []


def test_a_restart_from_the_checkpoint_asks_nothing(client):
    assert run(["restart", "shop"]) == 0
    assert client.orders[0]["origin"] is None
    assert client.accepted == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--from", "timestamp"],
        ["--timestamp", "2026-01-01"],
        ["--from", "offsets"],
        ["--snapshot", "x", "--from", "latest"],
        ["--from", "yesterday"],
    ],
)
def test_options_that_do_not_go_together_are_told(client, arguments):
    assert run(["restart", "shop", *arguments]) == 64
    assert client.orders == []
