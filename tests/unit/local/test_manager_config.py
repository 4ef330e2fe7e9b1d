from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from supervisor.options import ServerOptions

from headgate.local.health import Runs
from headgate.local.manager import SOCKET_LIMIT, Manager
from headgate.local.manager_config import Endpoint, Layout, configuration, specification
from headgate.local.services import Service

NASTY = 'a "quoted" 50% \\ value, with; all'


def _parse(tmp_path: Path, text: str) -> Any:
    """Read the configuration with supervisord's own parser."""
    file = tmp_path / "supervisord.conf"
    file.write_text(text, encoding="utf-8")
    options = ServerOptions()
    options.realize(["-c", str(file)])
    return options


def _layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "state", tmp_path)
    layout.log.mkdir(parents=True)
    layout.run.mkdir(parents=True)
    return layout


def _configuration(layout: Layout, *services: Service) -> str:
    endpoint = Endpoint(f"unix://{layout.socket}")
    return configuration(layout, endpoint, {each.name: specification(each, {}) for each in services})


def _command(tmp_path: Path, layout: Layout, service: Service) -> list[str]:
    [group] = _parse(tmp_path, _configuration(layout, service)).process_group_configs
    return shlex.split(group.process_configs[0].command)


def test_a_path_with_spaces_and_percent_signs_survives_supervisords_parser(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "50% of it", tmp_path)
    layout.log.mkdir(parents=True)
    layout.run.mkdir(parents=True)
    command = _command(tmp_path, layout, Service("x", ("/bin/true",), Runs()))
    assert command[command.index("--spec") + 1] == str(layout.specification("x"))


def test_a_specification_keeps_any_argument_and_variable() -> None:
    service = Service("odd", ("/bin/echo", NASTY), Runs(), environ={"ODD": NASTY})
    read = json.loads(specification(service, {"PLAIN": "1"}))
    assert read["command"] == ["/bin/echo", NASTY]
    assert read["environ"] == {"ODD": NASTY, "PLAIN": "1"}


@pytest.mark.parametrize(
    "other",
    [
        Service("x", ("/bin/false",), Runs()),
        Service("x", ("/bin/true",), Runs(), environ={"A": "1"}),
        Service("x", ("/bin/true",), Runs(), config="file changed"),
    ],
)
def test_supervisord_sees_that_a_service_is_not_the_same_any_more(tmp_path: Path, other: Service) -> None:
    layout = _layout(tmp_path)
    before = _command(tmp_path, layout, Service("x", ("/bin/true",), Runs()))
    assert before == _command(tmp_path, layout, Service("x", ("/bin/true",), Runs()))
    assert before != _command(tmp_path, layout, other)


def test_a_program_is_restarted_but_never_started_by_itself(tmp_path: Path) -> None:
    text = _configuration(_layout(tmp_path), Service("x", ("/bin/true",), Runs()))
    [group] = _parse(tmp_path, text).process_group_configs
    [program] = group.process_configs
    assert program.autostart is False
    assert program.autorestart.__name__ == "RestartUnconditionally"
    assert program.stopasgroup
    assert program.killasgroup
    assert program.stdout_logfile is None


def test_a_short_path_gives_a_socket_that_only_its_owner_opens(tmp_path: Path) -> None:
    layout = Layout(Path("/s"), tmp_path)
    endpoint = Manager(layout)._new_endpoint()
    assert endpoint.url == "unix:///s/run/supervisord.sock"
    assert "chmod=0700" in configuration(layout, endpoint, {})


def test_a_path_too_long_for_a_socket_gives_a_loopback_port_with_a_password(tmp_path: Path) -> None:
    layout = Layout(tmp_path / ("x" * SOCKET_LIMIT), tmp_path)
    endpoint = Manager(layout)._new_endpoint()
    assert endpoint.url.startswith("http://127.0.0.1:")
    assert len(endpoint.password) >= 20
    options = _parse(tmp_path, configuration(_layout(tmp_path), endpoint, {}))
    [listener] = options.server_configs
    assert (listener["host"], listener["password"]) == ("127.0.0.1", endpoint.password)


def test_the_socket_limit_leaves_room_for_supervisords_temporary_name() -> None:
    assert SOCKET_LIMIT + len(f".{4_194_304}") + 1 <= 108


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is asked for a user")
def test_root_is_named_as_the_user_on_purpose(tmp_path: Path) -> None:
    assert "user=root" in configuration(_layout(tmp_path), Endpoint("unix:///s"), {})
