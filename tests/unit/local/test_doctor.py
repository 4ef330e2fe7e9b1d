from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from headgate.local import doctor
from headgate.local.doctor import BASE_MEMORY, DRIVER_OVERHEAD, GIB, Finding, examine, memory_needed
from headgate.local.ports import free_port
from headgate.settings import Settings, load_settings


def _settings(home: Path) -> Settings:
    keys = ("KAFKA", "CONTROLLER", "REDIS")
    kafka, controller, redis = (str(free_port()) for _ in keys)
    environ = {
        "HEADGATE_KAFKA_BROKERS": f"127.0.0.1:{kafka}",
        "HEADGATE_LOCAL_KAFKA_CONTROLLER_PORT": controller,
        "HEADGATE_REDIS_URL": f"redis://127.0.0.1:{redis}/0",
    }
    return load_settings(home, environ)[0]


def _named(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def test_heaps_and_overheads_add_up() -> None:
    assert memory_needed([]) == BASE_MEMORY
    assert memory_needed(["512m", "2g"]) == BASE_MEMORY + GIB // 2 + 2 * GIB + 2 * DRIVER_OVERHEAD


def test_nothing_started_is_one_failure_per_service_each_with_a_next_command(tmp_path: Path) -> None:
    findings = examine(_settings(tmp_path))
    for name in ("process manager", "kafka", "redis"):
        assert _named(findings, name).failed
        assert _named(findings, name).help == "headgate up"


def test_missing_jars_are_counted_and_the_command_is_named(tmp_path: Path) -> None:
    finding = _named(examine(_settings(tmp_path)), "spark jars")
    assert finding.failed
    assert finding.detail.startswith("11 of 11")
    assert finding.help == "make jars"


def test_streams_that_do_not_fit_the_machine_are_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small:
        total = GIB

    monkeypatch.setattr(psutil, "virtual_memory", Small)
    finding = _named(examine(_settings(tmp_path)), "memory")
    assert finding.failed
    assert "headgate stop" in finding.help


def test_a_full_disk_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = GIB

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: Full)
    assert _named(examine(_settings(tmp_path)), "disk").failed


def test_a_store_of_tables_that_does_not_answer_is_a_failure_and_tables_on_this_disk_are_none(
    tmp_path: Path,
) -> None:
    settings = _settings(tmp_path)
    assert not [each for each in examine(settings) if each.name == "tables"]
    environ = {
        "HEADGATE_ROOTS_TABLES": "s3://lake/a",
        "HEADGATE_S3_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "HEADGATE_S3_ALLOW_HTTP": "true",
        "HEADGATE_S3_ACCESS_KEY": "env:PATH",
        "HEADGATE_S3_SECRET_KEY": "env:PATH",
    }
    finding = _named(
        list(doctor._guarded("tables", lambda: doctor._tables(load_settings(tmp_path, environ)[0]))), "tables"
    )
    assert finding.failed
    assert finding.detail.startswith("s3://lake/a cannot be reached")


def test_what_is_only_missed_is_a_warning_not_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "missing_binaries", lambda: {"prometheus": "no alerts"})
    finding = _named(examine(_settings(tmp_path)), "prometheus")
    assert (finding.failed, finding.mark) == (False, "warning")
    assert "no alerts" in finding.detail


def test_services_that_others_run_are_asked_whether_they_can_be_reached(tmp_path: Path) -> None:
    environ = {
        "HEADGATE_KAFKA_BROKERS": "127.0.0.1:1,127.0.0.1:2",
        "HEADGATE_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "HEADGATE_SUPERVISOR_PORT": str(free_port()),
    }
    findings = examine(load_settings(tmp_path, environ)[0])
    brokers = [finding for finding in findings if finding.name == "kafka"]
    assert [finding.detail.split(": ")[0] for finding in brokers] == ["127.0.0.1:1", "127.0.0.1:2"]
    assert all(finding.failed for finding in brokers)
    assert _named(findings, "supervisor").failed


def test_a_schema_registry_is_looked_for_where_one_is_set(tmp_path: Path) -> None:
    assert "schema registry" not in {finding.name for finding in examine(_settings(tmp_path))}
    environ = {"HEADGATE_REGISTRY_URL": f"http://127.0.0.1:{free_port()}/apis/ccompat/v7"}
    finding = _named(examine(load_settings(tmp_path, environ)[0]), "schema registry")
    assert finding.failed
    assert "settings of registry" in finding.help


def test_replays_that_lie_on_the_disk_are_named_with_their_size(tmp_path):
    settings = Settings(home=tmp_path)
    assert list(doctor._replays(settings)) == []
    table = settings.state / "replays" / "shop" / "r1" / "tables" / "copy"
    table.mkdir(parents=True)
    with (table / "rows").open("wb") as rows:
        rows.truncate(GIB // 2)
    (found,) = doctor._replays(settings)
    assert (found.failed, found.warning) == (False, True)
    assert "r1 of shop 0.50 GiB" in found.detail
    assert "headgate replay discard" in found.help
