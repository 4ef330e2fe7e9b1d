from __future__ import annotations

import configparser
import json
import stat
import subprocess
from pathlib import Path

import pytest

from headgate.errors import RefusedError
from headgate.local import airflow, kafka, redis, secrets
from headgate.settings import Settings, load_settings


def _settings(home: Path, **environ: str) -> Settings:
    return load_settings(home, {f"HEADGATE_{key}": value for key, value in environ.items()})[0]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_broker_listens_on_loopback_and_makes_no_topic_by_accident(tmp_path: Path) -> None:
    values = _properties(kafka.server_properties(kafka.broker_of(_settings(tmp_path))))
    assert values["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"
    assert values["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert values["auto.create.topics.enable"] == "false"
    assert values["offsets.topic.replication.factor"] == "1"
    assert values["transaction.state.log.min.isr"] == "1"


def test_data_without_its_cluster_id_is_never_formatted_over(tmp_path: Path) -> None:
    broker = kafka.broker_of(_settings(tmp_path))
    broker.data.mkdir(parents=True)
    (broker.data / "realtime_data-0").mkdir()
    with pytest.raises(RefusedError, match=r"meta\.properties"):
        kafka.format_storage(broker)
    assert (broker.data / "realtime_data-0").is_dir()


def test_redis_keeps_what_was_published_and_listens_on_loopback(tmp_path: Path) -> None:
    lines = redis.configuration(redis.redis_of(_settings(tmp_path))).splitlines()
    assert "appendonly yes" in lines
    assert "appendfsync everysec" in lines
    assert "bind 127.0.0.1" in lines
    assert not any(line.startswith("requirepass") for line in lines)


def test_a_redis_password_stands_in_a_file_that_only_its_owner_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_TEST_SECRET", "s3cret")
    server = redis.redis_of(_settings(tmp_path, REDIS_PASSWORD="env:REDIS_TEST_SECRET"))
    redis.prepare(server)
    assert 'requirepass "s3cret"' in server.config.read_text(encoding="utf-8")
    assert _mode(server.config) == 0o600
    assert "s3cret" not in " ".join(server.command())


def test_airflows_secrets_are_made_once_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    home = airflow.prepare(settings)
    first = home.config.read_text(encoding="utf-8")
    airflow.prepare(settings)
    assert home.config.read_text(encoding="utf-8") == first
    private = [home.config, home.passwords, *(tmp_path / "var" / "secrets").iterdir()]
    assert {_mode(path) for path in private} == {0o600}
    [user] = json.loads(home.passwords.read_text(encoding="utf-8")).items()
    assert user == ("admin", (tmp_path / "var/secrets/airflow.password").read_text(encoding="utf-8").strip())


def test_airflow_binds_to_loopback_and_finds_its_own_execution_api(tmp_path: Path) -> None:
    home = airflow.prepare(_settings(tmp_path, AIRFLOW_PORT="18080"))
    parser = configparser.ConfigParser()
    parser.read(home.config)
    assert parser["api"]["host"] == "127.0.0.1"
    assert parser["core"]["execution_api_server_url"] == "http://127.0.0.1:18080/execution/"
    assert parser["core"]["load_examples"] == "False"
    assert parser["core"]["dags_folder"] == str(tmp_path / "dags")


def test_what_a_dead_scheduler_had_queued_does_not_wait_for_minutes(tmp_path: Path) -> None:
    home = airflow.prepare(_settings(tmp_path))
    assert float(_section(home, "scheduler")["orphaned_tasks_check_interval"]) <= 30


def test_a_percent_sign_in_a_path_survives_airflows_interpolation(tmp_path: Path) -> None:
    settings = _settings(tmp_path / "50%")
    (tmp_path / "50%").mkdir()
    home = airflow.prepare(settings)
    parser = configparser.ConfigParser()
    parser.read(home.config)
    assert parser["core"]["dags_folder"] == str(tmp_path / "50%" / "dags")


def test_a_password_that_the_owner_gives_is_used_and_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_TEST_SECRET", "chosen")
    settings = _settings(tmp_path, AIRFLOW_PASSWORD="env:AIRFLOW_TEST_SECRET")
    home = airflow.prepare(settings)
    assert json.loads(home.passwords.read_text(encoding="utf-8")) == {"admin": "chosen"}
    assert not (tmp_path / "var/secrets/airflow.password").exists()


def test_a_private_file_is_never_readable_by_others_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o644)
    secrets.write_private(path, "new")
    assert _mode(path) == 0o600
    assert path.read_text(encoding="utf-8") == "new"


def _section(home: airflow.AirflowHome, name: str) -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read(home.config, encoding="utf-8")
    return dict(parser[name])


def test_airflows_database_is_a_file_that_waits_for_writers_unless_a_server_is_named(tmp_path: Path) -> None:
    home = airflow.prepare(_settings(tmp_path))
    assert home.sqlite == tmp_path / "var/airflow/airflow.db"
    assert _section(home, "database")["sql_alchemy_connect_args"] == "headgate.local.airflow.CONNECT_ARGS"
    assert (Path(_section(home, "core")["plugins_folder"]) / "one_writer.py").is_file()
    address = "postgresql+psycopg://airflow@db.example/airflow"
    home = airflow.prepare(_settings(tmp_path, AIRFLOW_DATABASE=address))
    assert home.sqlite is None
    assert "plugins_folder" not in _section(home, "core")
    # The arguments are SQLite's: a server's client refuses them.
    assert _section(home, "database") == {"sql_alchemy_conn": address, "sql_alchemy_conn_async": address}


def test_a_servers_database_is_migrated_each_time_and_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    told: list[bool] = []

    def run_within(_seconds: float, _what: str, command: list[str], _environ: object) -> object:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(airflow, "run_within", run_within)
    for name in ("one", "one", "two"):
        address = f"postgresql+psycopg://airflow:hunter2@db.example/{name}"
        home = airflow.prepare(_settings(tmp_path, AIRFLOW_DATABASE=address))
        told.append(airflow.migrate(home, {}))
    assert len(ran) == 3, "it may be a new one behind the same address"
    assert told == [True, False, True]
    assert "hunter2" not in (home.folder / ".migrated").read_text(encoding="utf-8")
