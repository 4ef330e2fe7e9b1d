from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import RefusedError
from headgate.local import services
from headgate.local.health import Runs
from headgate.local.services import Service, services_of, stop_order
from headgate.settings import Settings, load_settings


def _settings(home: Path, **environ: str) -> Settings:
    return load_settings(home, {f"HEADGATE_{key}": value for key, value in environ.items()})[0]


def test_every_need_is_a_service_or_a_step_of_up(tmp_path: Path) -> None:
    found = services_of(_settings(tmp_path))
    known = {service.name for service in found} | {"storage", "database", "contracts"}
    assert {need for service in found for need in service.needs} <= known


def test_no_two_services_share_a_port(tmp_path: Path) -> None:
    ports = [
        port for service in services_of(_settings(tmp_path, LOCAL_TRIGGERERS="3")) for port in service.ports
    ]
    assert len(ports) == len(set(ports))


def test_airflow_stops_first_and_the_broker_last(tmp_path: Path) -> None:
    waves = [[service.name for service in wave] for wave in stop_order(services_of(_settings(tmp_path)))]
    assert all(name.startswith("airflow-") for name in waves[0])
    assert all(name.startswith("producer-") for name in waves[1])
    assert waves[-3:] == [["supervisor"], ["redis"], ["kafka"]]


def test_every_service_is_in_exactly_one_wave(tmp_path: Path) -> None:
    found = services_of(_settings(tmp_path))
    waves = stop_order(found)
    assert sorted(s.name for wave in waves for s in wave) == sorted(s.name for s in found)


def test_the_supervisors_drivers_outlive_it(tmp_path: Path) -> None:
    kept = [service.name for service in services_of(_settings(tmp_path)) if not service.whole_tree]
    assert kept == ["supervisor"]


def test_a_broker_elsewhere_is_not_embedded(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"kafka\.brokers"):
        services_of(_settings(tmp_path, KAFKA_BROKERS="k1:9092,k2:9092"))


def test_a_redis_elsewhere_is_not_embedded(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"redis\.url"):
        services_of(_settings(tmp_path, REDIS_URL="rediss://cache:6379/0"))


def test_without_prometheus_the_others_are_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "find_binary", lambda _name: None)
    names = {service.name for service in services_of(_settings(tmp_path))}
    assert "exporter" in names
    assert names.isdisjoint({"prometheus", "alertmanager"})
    assert set(services.missing_binaries()) == {"prometheus", "alertmanager"}


def test_a_service_changes_with_the_file_it_reads_at_its_start(tmp_path: Path) -> None:
    def config(name: str) -> str:
        return next(s.config for s in services_of(_settings(tmp_path)) if s.name == name)

    before = config("kafka")
    (tmp_path / "var" / "kafka").mkdir(parents=True)
    (tmp_path / "var" / "kafka" / "server.properties").write_text("node.id=1\n", encoding="utf-8")
    assert config("kafka") != before


def test_each_triggerer_serves_its_logs_on_a_port_of_its_own(tmp_path: Path) -> None:
    found = [s for s in services_of(_settings(tmp_path, LOCAL_TRIGGERERS="2")) if "triggerer" in s.name]
    assert [s.ports for s in found] == [(8794,), (8795,)]
    assert found[1].environ["AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT"] == "8795"


def test_stop_order_of_nothing_is_nothing() -> None:
    assert stop_order([]) == []
    assert stop_order([Service("kafka", ("x",), Runs())])[0][0].name == "kafka"
