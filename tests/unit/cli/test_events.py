"""`headgate events`: of one stream, and of all."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from headgate.cli import streams as module
from headgate.cli.main import run
from headgate.streams.model import Event

LOGS = [Event(1, 10.0, "logs", "transition", "stopped", "starting", "order", "cli:ada", 1, 1)]
SHOP = [
    Event(1, 5.0, "shop", "transition", "stopped", "starting", "order", "cli:ada", 1, 1),
    Event(2, 20.0, "shop", "transition", "starting", "running", "report", "supervisor", 1, 1),
]


class Client:
    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def streams(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(stream="logs"), SimpleNamespace(stream="shop")]

    def events(self, stream: str, after: int, limit: int) -> list[Event]:
        assert after == -1
        return {"logs": LOGS, "shop": SHOP}[stream][-limit:]


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_settings", lambda: None)
    monkeypatch.setattr(module, "supervisor_client", lambda _: Client())


def test_events_of_one_stream(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["events", "shop", "-n", "1", "--json"]) == 0
    assert [event["to_phase"] for event in json.loads(capsys.readouterr().out)] == ["running"]
    assert run(["events", "shop"]) == 0
    assert "STREAM" not in capsys.readouterr().out


def test_without_a_name_the_newest_of_all_streams_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["events"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "STREAM"
    assert [line.split()[0] for line in lines] == ["shop", "logs", "shop"]
    assert run(["events", "-n", "2", "--json"]) == 0
    assert [event["stream"] for event in json.loads(capsys.readouterr().out)] == ["logs", "shop"]
