"""The files in docker/ are not run here, so what they name is held against what is there."""

from __future__ import annotations

import importlib.util
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from headgate.cli.main import build_app
from headgate.errors import RefusedError
from headgate.local.containers import check_of, main, write_files
from headgate.settings import Settings, load_settings

CHECKOUT = Path(__file__).resolve().parents[3]
DOCKER = CHECKOUT / "docker"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def settings(compose: dict[str, Any]) -> Settings:
    """The settings that the containers see."""
    environ = {k: v for k, v in compose["x-headgate"]["environment"].items() if k.startswith("HEADGATE_")}
    return load_settings(CHECKOUT, environ)[0]


def test_every_variable_of_the_compose_file_is_a_setting(settings: Settings) -> None:
    assert settings.kafka.brokers == "kafka:9092"
    assert settings.store_url == "postgresql+psycopg://headgate@postgres/headgate"


def test_every_command_of_ours_exists(compose: dict[str, Any]) -> None:
    verbs = set(typer.main.get_command(build_app()).commands)  # type: ignore[attr-defined]
    seen = 0
    for name, service in compose["services"].items():
        command = service.get("command", [])
        if command[:1] == ["headgate"]:
            assert command[1] in verbs, name
            seen += 1
        elif command[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(command[2]) is not None, name
            seen += 1
    assert seen >= 6


def test_services_are_only_waited_for_when_they_exist_and_can_be_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in services, (name, needed)
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], (name, needed)
            if condition["condition"] == "service_completed_successfully":
                ends = services[needed]["restart"]
                assert ends == "no" or ends.startswith("on-failure"), (name, needed)


def test_nothing_is_published_beyond_loopback(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_a_shared_network_namespace_publishes_its_ports_on_its_owner(compose: dict[str, Any]) -> None:
    beside = [s for s in compose["services"].values() if s.get("network_mode") == "service:supervisor"]
    assert len(beside) >= 3
    assert not any("ports" in service for service in beside)


def test_what_is_mounted_and_copied_is_there(compose: dict[str, Any]) -> None:
    volumes = [volume for s in compose["services"].values() for volume in s.get("volumes", [])]
    for volume in volumes:
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (DOCKER / source).exists(), volume
        else:
            assert source in compose["volumes"], volume
    dockerfile = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, flags=re.MULTILINE):
        for source in line.split():
            assert (CHECKOUT / source).exists(), source


def test_the_image_and_the_set_up_compile_every_package_of_ours() -> None:
    image = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    copied = set(re.findall(r"^COPY (\w+) \1$", image, re.MULTILINE)) - {"pipelines"}
    assert {"headgate", "spark", "dags"} <= copied
    for text in (image.replace("\\\n", ""), (CHECKOUT / "tools" / "setup.sh").read_text(encoding="utf-8")):
        (folders,) = re.findall(r"compileall -q (?:--invalidation-mode \S+\s+)?([\w ]+)", text)
        assert copied <= set(folders.split())


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(
        r"^USER (\S+)", (DOCKER / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert users == ["headgate"]


def test_the_folder_never_becomes_a_package_that_shadows_the_docker_sdk() -> None:
    assert not (DOCKER / "__init__.py").exists()


def _in(tmp_path: Path, settings: Settings) -> Settings:
    return settings.model_copy(update={"home": tmp_path})


def test_passwords_are_made_once_and_the_clients_file_agrees_with_the_databases(
    tmp_path: Path, settings: Settings
) -> None:
    here = _in(tmp_path, settings)
    write_files(here, tmp_path / "passwords")
    first = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "passwords").iterdir()}
    write_files(here, tmp_path / "passwords")
    assert {p.name: p.read_text(encoding="utf-8") for p in (tmp_path / "passwords").iterdir()} == first
    assert set(first) == {"postgres", "grafana", "headgate", "airflow"}
    pgpass = here.state / "secrets" / "pgpass"
    assert stat.S_IMODE(pgpass.stat().st_mode) == 0o600
    assert f"postgres:*:headgate:headgate:{first['headgate'].strip()}" in pgpass.read_text(encoding="utf-8")


def test_a_container_without_a_health_check_is_refused(settings: Settings) -> None:
    with pytest.raises(RefusedError, match="grafana"):
        check_of(settings, "grafana")


def test_an_unhealthy_container_exits_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADGATE_SUPERVISOR_PORT", "1")
    assert main(["healthy", "supervisor"]) == 1
    assert "refused" in capsys.readouterr().out
