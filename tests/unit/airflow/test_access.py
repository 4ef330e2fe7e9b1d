from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.airflow import access
from headgate.errors import SettingsError
from headgate.streams import client as clients

TOKEN = "a-secret-token"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The addresses and tokens that clients were made with."""
    made: list[tuple[str, str]] = []
    monkeypatch.setattr(clients, "SupervisorClient", lambda url, token: made.append((url, token)))
    monkeypatch.setattr(clients, "AsyncSupervisorClient", lambda url, token: made.append((url, token)))
    return made


def connection(monkeypatch: pytest.MonkeyPatch, found: Any) -> None:
    async def later() -> Any:
        return found

    monkeypatch.setattr(access, "_lookup", lambda: found)
    monkeypatch.setattr(access, "_alookup", later)


def both(monkeypatch: pytest.MonkeyPatch) -> None:
    access.client()
    asyncio.run(access.async_client())


def test_without_a_connection_the_settings_say_where_the_supervisor_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen: list[tuple[str, str]]
) -> None:
    connection(monkeypatch, None)
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADGATE_SUPERVISOR_PORT", "1234")
    (tmp_path / "var" / "secrets").mkdir(parents=True)
    (tmp_path / "var" / "secrets" / "supervisor.token").write_text(TOKEN)
    both(monkeypatch)
    assert seen == [("http://127.0.0.1:1234", TOKEN)] * 2


def test_without_a_connection_and_a_token_the_error_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen: list[tuple[str, str]]
) -> None:
    connection(monkeypatch, None)
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match=r"supervisor\.token"):
        access.client()


@pytest.mark.parametrize(
    ("address", "url"),
    [
        (("streams.example", 8070, None), "http://streams.example:8070"),
        (("streams.example", 8070, "https"), "https://streams.example:8070"),
        (("https://streams.example", None, None), "https://streams.example"),
    ],
)
def test_the_connection_comes_first_where_it_exists(
    monkeypatch: pytest.MonkeyPatch, seen: list[tuple[str, str]], address: tuple[Any, ...], url: str
) -> None:
    host, port, schema = address
    connection(monkeypatch, SimpleNamespace(host=host, port=port, schema=schema, password=TOKEN))
    both(monkeypatch)
    assert seen == [(url, TOKEN)] * 2


def test_the_token_does_not_show_when_an_access_is_printed() -> None:
    assert TOKEN not in repr(access.Access("http://x", TOKEN))
