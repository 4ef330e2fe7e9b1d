from __future__ import annotations

import sys
import xmlrpc.client
from pathlib import Path
from typing import Any

import pytest
from supervisor import xmlrpc as transports

from headgate.errors import ServiceError, UnavailableError
from headgate.local.execute import run_within
from headgate.local.manager import Manager
from headgate.local.manager_config import Layout


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    manager = Manager(Layout(tmp_path, tmp_path))
    manager.layout.endpoint.parent.mkdir(parents=True, exist_ok=True)
    manager.layout.endpoint.write_text('{"url": "http://127.0.0.1:1"}', encoding="utf-8")
    return manager


def test_a_fault_of_supervisord_is_an_error_with_its_words(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(*_: Any, **__: Any) -> None:
        raise xmlrpc.client.Fault(6, "SHUTDOWN_STATE")

    monkeypatch.setattr(transports.SupervisorTransport, "request", answer)
    with pytest.raises(ServiceError, match="SHUTDOWN_STATE") as caught:
        manager.states()
    assert "supervisord.log" in str(caught.value.help)


def test_a_manager_that_does_not_answer_is_unavailable(manager: Manager) -> None:
    assert manager.running is False
    with pytest.raises(UnavailableError, match="does not answer"):
        manager.states()


def test_a_program_that_hangs_is_an_error_that_names_it() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(ServiceError, match=r"the sleep did not end within 0\.2 s"):
        run_within(0.2, "the sleep", command)
