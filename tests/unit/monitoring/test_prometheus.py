from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

from headgate.settings import Settings, load_settings
from monitoring.prometheus import write_prometheus_config
from monitoring.tools import promtool


def _settings(tmp_path: Path, **environ: str) -> Settings:
    return load_settings(tmp_path, environ=environ)[0]


def test_promtool_accepts_the_configuration_and_its_rules(tmp_path: Path) -> None:
    files = write_prometheus_config(_settings(tmp_path), tmp_path / "prometheus")
    run = subprocess.run(
        [promtool(), "check", "config", str(files.prometheus)], text=True, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_ports_come_from_the_settings(tmp_path: Path) -> None:
    settings = _settings(tmp_path, HEADGATE_EXPORTER_PORT="18001", HEADGATE_LOCAL_ALERTMANAGER_PORT="18002")
    files = write_prometheus_config(settings, tmp_path)
    text = files.prometheus.read_text(encoding="utf-8")
    assert "http://127.0.0.1:18001/sd/drivers" in text
    assert "127.0.0.1:18002" in text
    assert "http://127.0.0.1:18001/runbooks/StreamDown" in files.rules.read_text(encoding="utf-8")


def test_a_server_that_listens_everywhere_is_reached_on_loopback(tmp_path: Path) -> None:
    settings = _settings(tmp_path, HEADGATE_EXPORTER_HOST="0.0.0.0", HEADGATE_SERVING_HOST="0.0.0.0")
    files = write_prometheus_config(settings, tmp_path)
    assert "0.0.0.0" not in files.prometheus.read_text(encoding="utf-8")
    assert "0.0.0.0" not in files.rules.read_text(encoding="utf-8")


def test_writing_it_again_changes_nothing(tmp_path: Path) -> None:
    first = write_prometheus_config(_settings(tmp_path), tmp_path)
    before = {path: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert write_prometheus_config(_settings(tmp_path), tmp_path) == first
    assert {path: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == before


def test_a_parked_stream_is_one_page(tmp_path: Path) -> None:
    files = write_prometheus_config(_settings(tmp_path), tmp_path)
    document = yaml.safe_load(files.alertmanager.read_text(encoding="utf-8"))
    parked = document["inhibit_rules"][0]
    assert "StreamParked" in parked["source_matchers"][0]
    assert "StreamDown" in parked["target_matchers"][0]
    assert parked["equal"] == ["pipeline"]
