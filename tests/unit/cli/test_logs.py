from __future__ import annotations

from pathlib import Path

import pytest

from headgate.cli.logs import log_of
from headgate.cli.main import run
from headgate.errors import NotFoundError


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    for name in ("kafka", "airflow-api-server", "streams/orders", "streams/kafka"):
        file = tmp_path / "var" / "log" / f"{name}.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name} one\n{name} two\n", encoding="utf-8")
    return tmp_path / "var"


def test_a_service_has_a_log_as_a_stream_has(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", "airflow-api-server", "-n", "1"]) == 0
    assert capsys.readouterr().out == "airflow-api-server two\n"
    assert run(["logs", "orders"]) == 0
    assert capsys.readouterr().out.startswith("streams/orders one\n")


def test_a_name_of_both_is_the_streams(state: Path) -> None:
    assert log_of(state, "kafka") == state / "log" / "streams" / "kafka.log"


def test_an_unknown_name_exits_4_with_the_one_that_was_meant(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["logs", "airflow-apiserver"]) == 4
    assert "did you mean airflow-api-server?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../secret", "streams/orders", "", "/etc/passwd"])
def test_no_name_leads_out_of_the_logs(state: Path, name: str) -> None:
    (state.parent / "secret.log").write_text("x", encoding="utf-8")
    with pytest.raises(NotFoundError):
        log_of(state, name)


def test_without_a_name_it_says_what_has_a_log(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    assert [tuple(line.split()[:2]) for line in lines] == [
        ("kafka", "stream"),
        ("orders", "stream"),
        ("airflow-api-server", "service"),
        ("kafka", "service"),
    ]
    assert str(state / "log" / "streams" / "orders.log") in lines[1]
    assert run(["logs", "-f"]) == 64


def test_before_anything_has_run_there_are_no_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    assert run(["logs"]) == 0
    assert "nothing has run yet" in capsys.readouterr().err
