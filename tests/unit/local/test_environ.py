from __future__ import annotations

from pathlib import Path

import pytest

from headgate.local.platform import Platform
from headgate.settings import load_settings


def test_an_up_from_another_shell_gives_the_services_the_same_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Platform(load_settings(tmp_path, {})[0])
    before = platform.environ()
    monkeypatch.setenv("PATH", f"/somewhere/else:{before['PATH']}")
    monkeypatch.setenv("HEADGATE_DEBUG", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert platform.environ() == before


def test_the_settings_of_the_caller_reach_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_SERVING_PORT", "5999")
    environ = Platform(load_settings(tmp_path)[0]).environ()
    assert environ["HEADGATE_SERVING_PORT"] == "5999"
    assert environ["HEADGATE_HOME"] == str(tmp_path)


def test_no_proxy_of_the_caller_stands_between_the_services(tmp_path: Path) -> None:
    environ = Platform(load_settings(tmp_path, {})[0]).environ()
    assert "127.0.0.1" in environ["NO_PROXY"].split(",")
