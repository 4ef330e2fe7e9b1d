from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from monitoring_examples import NOW, orders, platform, readings, status
from replay_world import make_world

from headgate.cli.main import run
from headgate.replays.model import KIND
from headgate.streams.model import StreamStatus
from headgate.streams.operations import note
from headgate.streams.store import StateStore
from monitoring.readings import Readings, Supervised
from monitoring.snapshot import PlatformSnapshot


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[PlatformSnapshot]:
    """What the monitor sees; a test puts a snapshot in."""
    seen = [platform()]

    class Seen:
        def __init__(self, settings: object, *, background: bool) -> None:
            assert not background

        def read_once(self, deadline_seconds: float) -> PlatformSnapshot:
            return seen[-1]

    monkeypatch.setattr("monitoring.monitor.Monitor", Seen)
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "250")
    return seen


def test_json_is_an_array_of_pipelines(
    shown: list[PlatformSnapshot], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [orders().to_json()]


def test_one_line_per_pipeline(shown: list[PlatformSnapshot], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "pipeline"
    for text in ("orders", "running", "5 (2 s)", "12.5", "2 (2 %)", "3 s ago", "passed"):
        assert text in line


def test_one_pipeline_shows_its_queries_too(
    shown: list[PlatformSnapshot], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "orders"]) == 0
    text = capsys.readouterr().out
    assert "ordered by cli:ada" in text and "total" in text and "http://127.0.0.1:4040" in text


def test_one_pipeline_shows_why_records_were_quarantined_and_how_to_see_them(
    shown: list[PlatformSnapshot], capsys: pytest.CaptureFixture[str]
) -> None:
    item = orders()
    assert item.rows is not None
    rows = replace(item.rows, quarantined=9, rules={"positive": 2, "_malformed": 7, "known": 1})
    item = replace(item, rows=rows, warn_rules=frozenset({"known"}))
    shown.append(replace(shown[0], pipelines=(item,)))
    assert run(["status", "orders"]) == 0
    text = capsys.readouterr().out
    assert re.search(
        r"_malformed +7 +quarantined\s+positive +2 +quarantined\s+known +1 +good, with a warn", text
    )
    assert "headgate quarantine orders" in text


def test_one_pipeline_without_a_verdict_says_what_its_checks_wait_for(
    shown: list[PlatformSnapshot], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "orders"]) == 0
    assert "no quality check yet" not in capsys.readouterr().out
    item = replace(orders(), quality_every=300.0, verdicts=())
    shown.append(replace(shown[0], pipelines=(item,)))
    assert run(["status", "orders"]) == 0
    assert "is quality.orders paused in Airflow? Now: headgate check orders" in capsys.readouterr().out


def test_one_pipeline_shows_its_replays_that_are_not_over(
    shown: list[PlatformSnapshot],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = make_world(tmp_path)
    shown.append(platform(readings(contracts={}, supervised=Supervised({"shop": _shop()}, {}, NOW))))
    monkeypatch.setattr("headgate.cli.status.load_settings", lambda: (world.settings, None))
    with closing(StateStore(world.settings.store_url)) as store:
        note(store, "shop", KIND, "r1", "requested", actor="cli:ada", at=1.0)
        assert run(["status", "shop"]) == 0
        assert "replay r1 requested, 0% read: headgate replay status r1" in capsys.readouterr().out
        for state in ("discarding", "discarded"):
            note(store, "shop", KIND, "r1", state, actor="cli:ada", at=2.0)
    assert run(["status", "shop"]) == 0
    assert "replay" not in capsys.readouterr().out


def _shop() -> StreamStatus:
    return replace(status(), stream="shop", pipeline="shop")


def test_an_unknown_pipeline_is_exit_4_and_names_those_there_are(
    shown: list[PlatformSnapshot], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "other"]) == 4
    assert "orders" in capsys.readouterr().err


def test_a_dead_supervisor_is_exit_69_and_the_rest_is_shown(
    shown: list[PlatformSnapshot], capsys: pytest.CaptureFixture[str]
) -> None:
    shown.append(platform(readings(supervised=None), down=("supervisor",)))
    assert run(["status", "--json"]) == 69
    captured = capsys.readouterr()
    (item,) = json.loads(captured.out)
    assert item["state"] == "unknown" and item["rows_read"] == 100 and item["lag_records"] == 5
    assert "supervisor" in captured.err


def test_without_contracts_it_says_what_to_do(
    shown: list[PlatformSnapshot], capsys: pytest.CaptureFixture[str]
) -> None:
    shown.append(
        platform(Readings(contracts={}, supervised=Supervised({}, {}, NOW), lags={}, checkpoints={}))
    )
    assert run(["status"]) == 0
    assert "headgate apply" in capsys.readouterr().err


def test_texts_of_services_are_not_taken_for_markup(
    shown: list[PlatformSnapshot], capsys: pytest.CaptureFixture[str]
) -> None:
    odd = Supervised({"orders": status(reason="[KAFKA_DATA_LOSS] [bold]lost[/bold]")}, {}, NOW)
    shown.append(replace(platform(readings(supervised=odd))))
    assert run(["status"]) == 0
    assert "[KAFKA_DATA_LOSS] [bold]lost[/bold]" in capsys.readouterr().out
