"""headgate.toml and HEADGATE_*: what is wrong is said with its place, and no secret is shown."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from headgate.cli.main import run
from headgate.errors import SettingsError
from headgate.local.redis import redis_of
from headgate.settings import Settings, load_settings

SECRET = "hunter2"
REFERENCES = [
    "KAFKA_USERNAME",
    "KAFKA_PASSWORD",
    "REDIS_PASSWORD",
    "REGISTRY_USERNAME",
    "REGISTRY_PASSWORD",
    "REGISTRY_TOKEN",
    "SUPERVISOR_TOKEN",
    "AIRFLOW_PASSWORD",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "S3_SESSION_TOKEN",
]


def _load(home: Path, text: str = "", environ: Mapping[str, str] | None = None) -> Settings:
    (home / "headgate.toml").write_text(text, encoding="utf-8")
    return load_settings(home, environ or {})[0]


def _refused(home: Path, text: str = "", environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        _load(home, text, environ)
    return str(caught.value)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_value_in_a_secrets_place_is_refused_and_never_shown(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"a value in a secret's place.*env:NAME or file:PATH") as caught:
        load_settings(tmp_path, {f"HEADGATE_{name}": SECRET})
    assert f"HEADGATE_{name}" in str(caught.value)
    # With --debug the whole chain is printed, pydantic's own error as well.
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_every_field_that_takes_a_reference_is_tried_here() -> None:
    found = [
        f"{section}_{key}".upper()
        for section, field in Settings.model_fields.items()
        for key, inner in getattr(field.annotation, "model_fields", {}).items()
        if any("_checked_reference" in repr(item) for item in [inner.annotation, *inner.metadata])
    ]
    assert sorted(found) == sorted(REFERENCES)


def test_references_are_taken(tmp_path: Path) -> None:
    settings = _load(tmp_path, '[kafka]\npassword = "env:P"\nusername = "file:/run/secrets/u"\n')
    assert (settings.kafka.password, settings.kafka.username) == ("env:P", "file:/run/secrets/u")


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@registry.example.com",
        "https://hunter2@registry.example.com",
        "https://registry.example.com/?token=hunter2",
        "https://registry.example.com/#hunter2",
    ],
)
def test_credentials_in_the_registrys_address_are_refused_and_never_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="credentials go to registry") as caught:
        load_settings(tmp_path, {"HEADGATE_REGISTRY_URL": url})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_there_is_one_way_into_a_registry(tmp_path: Path) -> None:
    text = '[registry]\nurl = "http://r"\nusername = "env:U"\n'
    assert "expected both username and password" in _refused(tmp_path, text)
    more = 'password = "env:P"\ntoken = "env:T"\n'
    assert "either a token or username and password" in _refused(tmp_path, text + more)


@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "--json"], ["urls"], ["urls", "--json"]])
def test_no_password_of_a_url_is_printed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADGATE_STORE_URL", "postgresql+psycopg://headgate:hunter2@127.0.0.1:1/headgate")
    monkeypatch.setenv("HEADGATE_REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
    monkeypatch.setenv("HEADGATE_KAFKA_BROKERS", "127.0.0.1:1")
    run(arguments)
    told = capsys.readouterr()
    assert "hunter2" not in told.out + told.err
    assert ":***@127.0.0.1:1" in told.out


def test_a_redis_elsewhere_is_refused_without_its_password(tmp_path: Path) -> None:
    settings = _load(tmp_path, environ={"HEADGATE_REDIS_URL": "rediss://:hunter2@cache:6380/0"})
    with pytest.raises(Exception, match="not an embedded server") as caught:
        redis_of(settings)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "environ", "told"),
    [
        ('env = "prod"', {}, "env ({file}:1): expected tables [env.<name>]"),
        ("\n[env]\nlocal = 3", {}, "env.local ({file}:3): expected a table"),
        (
            "environment = 3\n[env.prod.kafka]\nreplication = 3",
            {},
            "environment ({file}:1): expected the name",
        ),
        ("environment = 3", {}, "environment ({file}:1): expected the name"),
        ("kafka = 3", {"HEADGATE_KAFKA_REPLICATION": "1"}, "kafka ({file}:1): expected a table, [kafka]"),
        (
            "[env.local]\nkafka = 3",
            {},
            "kafka ({file}:2 [env.local]): expected a table, [env.local.kafka]",
        ),
        ('home = "/etc"', {}, "home ({file}:1): cannot be set here: the folder of this file is the home"),
        ('[env.local]\nhome = "/etc"', {}, "home ({file}:2 [env.local]): cannot be set here"),
        ('[env.local]\nenv = "x"', {}, "env ({file}:2 [env.local]): cannot be set here"),
        ("[kafka]\n\nreplication = 0", {}, "kafka.replication ({file}:3): Input should be greater"),
        ("[kafka]\nbroker = 'a:1'", {}, "kafka.broker ({file}:2): there is no such setting"),
        ('prefix = "a"\npipelines = 3', {}, "pipelines ({file}:2): "),
        ('prefix = "a"\n[env.local.prefix]\nx = 1', {}, "prefix ({file}:2 [env.local])"),
        ("[prefix]\nx = 1", {}, "prefix ({file}:1): "),
        ("", {"HEADGATE_KAFKA_REPLICATION": "x"}, "kafka.replication (HEADGATE_KAFKA_REPLICATION): "),
        ("", {"HEADGATE_KAFKA_BROKER": "a:1"}, "did you mean HEADGATE_KAFKA_BROKERS?"),
        ("", {"HEADGATE_KAFKA_BROKERS": "localhost"}, "'localhost' is not host:port"),
        (
            "",
            {"HEADGATE_REDIS_URL": "redis://127.0.0.1:abc/0"},
            "redis.url (HEADGATE_REDIS_URL): is not a URL",
        ),
        ("", {"HEADGATE_STORE_URL": "postgresql://db:abc/x"}, "store.url (HEADGATE_STORE_URL): is not a URL"),
        ("", {"HEADGATE_SUPERVISOR_HOST": "http://a"}, "'http://a' is not a host"),
        ("[env.prod]", {"HEADGATE_ENV": "pord"}, "env (HEADGATE_ENV): there is no environment 'pord'"),
    ],
)
def test_what_is_wrong_is_told_with_its_key_and_place(
    tmp_path: Path, text: str, environ: dict[str, str], told: str
) -> None:
    assert told.format(file=tmp_path / "headgate.toml") in _refused(tmp_path, text, environ)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    told = _refused(
        tmp_path,
        'home = "/etc"\nkafka = 3\n[redis]\nurl = "cache"\n',
        {"HEADGATE_KAFKA_PASSWORD": "hunter2", "HEADGATE_NONSENSE": "1", "HEADGATE_OTHER": "1"},
    )
    keys = ("home", "kafka (", "redis.url", "kafka.password", "HEADGATE_NONSENSE", "HEADGATE_OTHER")
    assert [key for key in keys if key not in told] == []


def test_a_file_that_is_no_toml_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "is not valid TOML" in _refused(tmp_path, "a = [")
    (tmp_path / "headgate.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"headgate\.toml cannot be read"):
        load_settings(tmp_path, {})


def test_a_variable_wins_over_the_environment_that_the_file_names(tmp_path: Path) -> None:
    text = 'environment = "a"\n[env.a]\nprefix = "a."\n[env.b]\nprefix = "b."\n'
    assert _load(tmp_path, text).prefix == "a."
    assert _load(tmp_path, text, {"HEADGATE_ENV": "b"}).prefix == "b."


def test_the_place_of_a_value_is_its_line_or_its_variable(tmp_path: Path) -> None:
    file = tmp_path / "headgate.toml"
    file.write_text("[kafka]\nreplication = 1\n[env.local.kafka]\ntimeout_seconds = 5\n", encoding="utf-8")
    _, origins = load_settings(tmp_path, {"HEADGATE_REDIS_URL": "redis://127.0.0.1:1/0"})
    places = {origin.key: origin.place for origin in origins}
    assert places["kafka.replication"] == f"{file}:2"
    assert places["kafka.timeout_seconds"] == f"{file}:4 [env.local]"
    assert places["redis.url"] == "HEADGATE_REDIS_URL"
    assert places["kafka.brokers"] == "default"
    assert json.dumps(places)


def test_a_server_on_ipv6_has_an_address_that_a_client_takes(tmp_path: Path) -> None:
    settings = _load(tmp_path, environ={"HEADGATE_SUPERVISOR_HOST": "::1"})
    assert settings.supervisor_url == "http://[::1]:8070"
    assert httpx.URL(settings.supervisor_url).port == 8070


def test_a_variable_writes_a_list_with_commas(tmp_path: Path) -> None:
    assert _load(tmp_path, environ={"HEADGATE_LOCAL_PRODUCERS": "a,b"}).local.producers == ("a", "b")
